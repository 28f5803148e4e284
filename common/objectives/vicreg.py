"""VICReg: the views agree, every dimension varies, and no two dimensions vary together.

L = λ·s + μ·[v(z_a) + v(z_b)]/2 + ν·[c(z_a) + c(z_b)], with s = mean squared difference over images
and dimensions, v = mean_j max(0, 1 - sqrt(var_j + 1e-4)), c = Σ_i Σ_{j≠i} Cov_ij² / p.
The paper's equations and the authors' code differ by constants: eq. 5 sums s over dimensions, eq. 6
does not halve v. Ours is the code's, which the published weights belong to.
Shared: encoder, projector. Local: nothing.
Source: Bardes, Ponce and LeCun, "VICReg", ICLR 2022 (arXiv 2105.04906), eqs. 1 to 6.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from common.losses.redundancy import covariance, missing_spread
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import Objective, Representations


@dataclass(frozen=True)
class Parameters:
    """`invariance_weight` λ, `variance_weight` μ, `covariance_weight` ν (section 4.2); `hidden`
    and `width`: the projector's layers (8,192 in the paper)."""

    invariance_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 1.0
    hidden: int = 256
    width: int = 256


class VICReg(Objective):
    """Invariance of the projections, with variance and covariance kept in each view by itself."""

    name = "vicreg"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.weights = parameters
        self.encoder = encoder
        self.projector = mlp(
            encoder.feature_dim, parameters.hidden, parameters.hidden, parameters.width
        )

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        a, b, weights = seen.z_a.float(), seen.z_b.float(), self.weights
        return {
            "invariance": weights.invariance_weight * F.mse_loss(a, b),
            "variance": weights.variance_weight * 0.5 * (missing_spread(a) + missing_spread(b)),
            "covariance": weights.covariance_weight * (covariance(a) + covariance(b)),
        }
