"""Barlow Twins: the two views' dimensions correlate one to one, and with nothing else.

L = Σ_i (1 - C_ii)² + λ Σ_i Σ_{j≠i} C_ij², C the cross-correlation over the batch between the
dimensions of z_a and of z_b. Shared: encoder, projector; in a synchronous stage the means, squares
and products that C is made of. Local: nothing.
Source: Zbontar et al., "Barlow Twins", ICML 2021 (arXiv 2103.03230), eqs. 1 and 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from common.losses.redundancy import cross_correlation, off_diagonal, pooled_cross_correlation
from common.models.encoders import Encoder
from common.models.heads import mlp, output_width
from common.objectives.base import Representations
from common.objectives.pooled import Pooled


@dataclass(frozen=True)
class Parameters:
    """`redundancy_weight` λ (section 3, ".005"); `hidden` and `width`: the projector's layers
    (8,192 in the paper, which gains from width: figure 4)."""

    redundancy_weight: float = 0.005
    hidden: int = 256
    width: int = 256


class BarlowTwins(Pooled):
    """The cross-correlation of two views' projections, drawn to the identity."""

    name = "barlow-twins"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.redundancy_weight = parameters.redundancy_weight
        self.encoder = encoder
        hidden, width = parameters.hidden, parameters.width
        self.projector = mlp(encoder.feature_dim, hidden, hidden, width, last_bias=False)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        return self._by_correlation(cross_correlation(seen.z_a, seen.z_b))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        width = output_width(self.projector)
        of_views = {f"{what}_{view}": (width,) for what in ("mean", "square") for view in "ab"}
        return {**of_views, "cross": (width, width)}

    def statistics(self, seen: Representations) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for view, z in zip("ab", (seen.z_a.float(), seen.z_b.float()), strict=True):
            found |= {f"mean_{view}": z.mean(dim=0), f"square_{view}": z.square().mean(dim=0)}
        with torch.autocast(seen.z_a.device.type, enabled=False):
            found["cross"] = seen.z_a.float().T @ seen.z_b.float() / len(seen.z_a)
        return found

    def by_statistics(
        self, seen: Representations, statistics: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return self._by_correlation(pooled_cross_correlation(statistics))

    def _by_correlation(self, correlation: Tensor) -> dict[str, Tensor]:
        return {
            "invariance": (1 - correlation.diagonal()).square().sum(),
            "redundancy": self.redundancy_weight * off_diagonal(correlation).square().sum(),
        }
