"""VICReg: the views agree, every dimension varies, and no two dimensions vary together.

L = λ·s + μ·[v(z_a) + v(z_b)]/2 + ν·[c(z_a) + c(z_b)], with s = mean squared difference over images
and dimensions, v = mean_j max(0, 1 - sqrt(var_j + 1e-4)), c = Σ_i Σ_{j≠i} Cov_ij² / p.
The paper's equations and the authors' code differ by constants: eq. 5 sums s over dimensions, eq. 6
does not halve v. Ours is the code's, which the published weights belong to. Variances and
covariances divide by N - 1, in a synchronous stage by N, since there they are made of means over
the batch's images.
Shared: encoder, projector; in a synchronous stage mean and second moment of each view, half of a
symmetric matrix. Local: nothing.
Source: Bardes, Ponce and LeCun, "VICReg", ICLR 2022 (arXiv 2105.04906), eqs. 1 to 6.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.redundancy import (
    covariance,
    missing_spread,
    packed_covariance,
    packed_moment,
    too_narrow,
)
from common.models.encoders import Encoder
from common.models.heads import mlp, output_width
from common.objectives.base import Representations
from common.objectives.pooled import Pooled


@dataclass(frozen=True)
class Parameters:
    """`invariance_weight` λ, `variance_weight` μ, `covariance_weight` ν (section 4.2); `hidden`
    and `width`: the projector's layers (8,192 in the paper)."""

    invariance_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 1.0
    hidden: int = 256
    width: int = 256


class VICReg(Pooled):
    """Invariance of the projections, with variance and covariance kept in each view by itself."""

    name = "vicreg"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.weights = parameters
        self.encoder = encoder
        hidden, width = parameters.hidden, parameters.width
        self.projector = mlp(encoder.feature_dim, hidden, hidden, width, last_bias=False)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        a, b = seen.z_a, seen.z_b
        spread = missing_spread(a) + missing_spread(b)
        return self._weighted(seen, spread, covariance(a) + covariance(b))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        width = output_width(self.projector)
        half = width * (width + 1) // 2
        sides = {"mean": (width,), "moment": (half,)}
        return {f"{what}_{view}": shape for what, shape in sides.items() for view in "ab"}

    def statistics(self, seen: Representations) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for view, z in zip("ab", (seen.z_a.float(), seen.z_b.float()), strict=True):
            found |= {f"mean_{view}": z.mean(dim=0), f"moment_{view}": packed_moment(z)}
        return found

    def by_statistics(
        self, seen: Representations, statistics: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        views = [
            packed_covariance(statistics[f"mean_{v}"], statistics[f"moment_{v}"]) for v in "ab"
        ]
        spread = torch.stack([too_narrow(variance) for variance, _ in views]).sum()
        between = torch.stack([2 * each.square().sum() / len(own) for own, each in views]).sum()
        return self._weighted(seen, spread, between)

    def _weighted(
        self, seen: Representations, spread: Tensor, between: Tensor
    ) -> dict[str, Tensor]:
        weights, difference = self.weights, F.mse_loss(seen.z_a.float(), seen.z_b.float())
        return {
            "invariance": weights.invariance_weight * difference,
            "variance": weights.variance_weight * 0.5 * spread,
            "covariance": weights.covariance_weight * between,
        }
