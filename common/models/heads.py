"""Heads: what comes behind an encoder's output."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(*widths: int, last_norm: bool = False, last_bias: bool = True) -> nn.Sequential:
    """Linear layers with BatchNorm and ReLU between them; `last_norm`: BatchNorm without affine
    parameters after the last (as SimCLR's and SimSiam's projectors have). `last_bias`: False for a
    loss that no shift of the projections changes, and that has nothing to teach a bias."""
    layers: list[nn.Module] = []
    for index, (inner, outer) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        layers.append(nn.Linear(inner, outer, bias=last and last_bias and not last_norm))
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


class CentroidHead(nn.Module):
    """Logits cos(h, c_k) / τ_h: (N, d) -> (N, K); the weights (K, d) are the centroids."""

    def __init__(self, width: int, clusters: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.centroids = nn.Parameter(F.normalize(torch.randn(clusters, width), dim=1))

    def start_from(self, centroids: Tensor) -> None:
        """Take over centroids (K, d); those of another shape are left alone."""
        if centroids.shape == self.centroids.shape:
            self.centroids.data.copy_(centroids)

    def forward(self, h: Tensor) -> Tensor:
        with torch.autocast(h.device.type, enabled=False):  # bfloat16 is too coarse for cosines
            cosines: Tensor = F.normalize(h.float(), dim=1) @ F.normalize(self.centroids, dim=1).T
        return cosines / self.temperature


class Prototypes(nn.Module):
    """K vectors, of unit length in training; inner products (N, K) with them of projections
    (N, p) scaled to unit length."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(F.normalize(torch.randn(count, width), dim=1))

    @torch.no_grad()
    def renormalise(self) -> None:
        """Scale them to unit length."""
        self.vectors.copy_(F.normalize(self.vectors, dim=1))

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            cosines: Tensor = F.normalize(z.float(), dim=1) @ self.vectors.T
        return cosines
