"""Barlow Twins: the two views' dimensions correlate one to one, and with nothing else.

L = Σ_i (1 - C_ii)² + λ Σ_i Σ_{j≠i} C_ij², C the cross-correlation over the batch between the
dimensions of z_a and of z_b. Shared: encoder, projector. Local: nothing.
Source: Zbontar et al., "Barlow Twins", ICML 2021 (arXiv 2103.03230), eqs. 1 and 2.
"""

from dataclasses import dataclass

from torch import Tensor

from common.losses.redundancy import cross_correlation, off_diagonal
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
