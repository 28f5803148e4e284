"""Barlow Twins: the two views' dimensions correlate one to one, and with nothing else.

L = Σ_i (1 - C_ii)² + λ Σ_i Σ_{j≠i} C_ij², C the cross-correlation over the batch between the
dimensions of z_a and of z_b. Shared: encoder, projector. Local: nothing.
Source: Zbontar et al., "Barlow Twins", ICML 2021 (arXiv 2103.03230), eqs. 1 and 2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import Objective, Representations


@dataclass(frozen=True)
class Parameters:
    """`redundancy_weight` λ (section 3, ".005"); `hidden` and `width`: the projector's layers
    (8,192 in the paper, which gains from width: figure 4)."""

    redundancy_weight: float = 0.005
    hidden: int = 256
    width: int = 256


class BarlowTwins(Objective):
    """The cross-correlation of two views' projections, drawn to the identity."""

    name = "barlow-twins"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.redundancy_weight = parameters.redundancy_weight
        self.encoder = encoder
        self.projector = mlp(
            encoder.feature_dim, parameters.hidden, parameters.hidden, parameters.width
        )

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        correlation = cross_correlation(seen.z_a, seen.z_b)
        return {
            "invariance": (1 - correlation.diagonal()).square().sum(),
            "redundancy": self.redundancy_weight * off_diagonal(correlation).square().sum(),
        }


def cross_correlation(a: Tensor, b: Tensor) -> Tensor:
    """C (p, p) of `a`, `b` (N, p): C_ij = mean over the batch of a_i·b_j, each dimension shifted to
    mean 0 and scaled to variance 1 (with 1e-5 added to it, as in BatchNorm)."""
    if a.shape != b.shape or a.ndim != 2 or len(a) < 2:
        raise ValueError(
            f"need two (N, p) tensors with N >= 2, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    with torch.autocast(a.device.type, enabled=False):
        return standardised(a).T @ standardised(b) / len(a)


def standardised(z: Tensor) -> Tensor:
    """`z` (N, p) as float32, each dimension with mean 0 and variance 1 over the batch."""
    z = z.float()
    return (z - z.mean(dim=0)) * (z.var(dim=0, correction=0) + 1e-5).rsqrt()


def off_diagonal(matrix: Tensor) -> Tensor:
    """The square `matrix` (p, p) with zeros on its diagonal."""
    return matrix - matrix.diagonal().diag()
