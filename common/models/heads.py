"""Heads: what comes behind an encoder's output."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


def mlp(*widths: int, last_norm: bool = False) -> nn.Sequential:
    """Linear layers with BatchNorm and ReLU between them; `last_norm`: BatchNorm without affine
    parameters after the last (as SimCLR's and SimSiam's projectors have)."""
    layers: list[nn.Module] = []
    for index, (inner, outer) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        layers.append(nn.Linear(inner, outer, bias=last and not last_norm))
        if not last:
            layers += [nn.BatchNorm1d(outer), nn.ReLU(inplace=True)]
        elif last_norm:
            layers.append(nn.BatchNorm1d(outer, affine=False))
    return nn.Sequential(*layers)


class UnitLinear(nn.Module):
    """h (N, d) scaled to unit length, then a linear map: (N, p)."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inner, outer)

    def forward(self, h: Tensor) -> Tensor:
        projections: Tensor = self.linear(F.normalize(h, dim=1))
        return projections


def output_width(head: nn.Module) -> int:
    """Numbers in one output of a head: those of its last linear layer."""
    linear = [m for m in head.modules() if isinstance(m, nn.Linear)]
    return linear[-1].out_features
