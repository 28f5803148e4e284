"""SimCLR from two moments: its negatives' log-mean-exp to second order.

NT-Xent of the unit-length projections z_1 ... z_2N of two views of N images is, but for the
constant log(2N - 1),
    L = E_i[-z_i·z_i⁺/τ + log E_j exp(z_i·z_j/τ)],
E_j over the other projections. With m = E[z] and R = E[zzᵀ], x = z_i·z_j/τ has over all j the mean
z_i·m/τ and the variance z_iᵀ(R - mmᵀ)z_i/τ²; log E exp x = E x + Var x / 2 up to the third
cumulant, so that with E_i[z_i] = m and E_i[z_i z_iᵀ] = R
    L ≈ -E[z_a·z_b]/τ + m·m/τ + (tr(R²) - mᵀRm) / 2τ².
All that repels are two means over images, which sites can share (`common/objectives/pooled.py`);
the keys of SimCLR itself are embeddings, which do not leave a site. The mean over j takes in the
anchor itself and its positive: 2 of 2N. At τ = .5, x lies in [-2, 2], and near 0 for most pairs;
at small τ the few nearest negatives count in SimCLR, and a second order does not know them.
With m = 0 and τ = 1/r it is half the spectral contrastive loss on the sphere of radius √r.
Shared: encoder, projector; in a synchronous stage m and R, p + p × p numbers. Local: nothing.
Sources: the loss: Chen et al., ICML 2020 (arXiv 2002.05709), eq. 1; the expansion: ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.second_order import second_order_repulsion
from common.losses.spectral import second_moment
from common.models.encoders import Encoder
from common.models.heads import mlp, output_width
from common.objectives.base import Representations
from common.objectives.pooled import Pooled


@dataclass(frozen=True)
class Parameters:
    """`temperature` τ; `hidden` and `width`: the projector's layers; all SimCLR's here."""

    temperature: float = 0.5
    hidden: int = 256
    width: int = 128


class SecondOrderInfoNCE(Pooled):
    """Two views attract; mean and second moment of all projections repel."""

    name = "second-order-infonce"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.encoder = encoder
        self.projector = mlp(encoder.feature_dim, parameters.hidden, parameters.width)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        width = output_width(self.projector)
        return {"mean": (width,), "moment": (width, width)}

    def statistics(self, seen: Representations) -> dict[str, Tensor]:
        z = torch.cat(unit(seen))
        return {"mean": z.mean(dim=0), "moment": second_moment(z)}

    def by_statistics(
        self, seen: Representations, statistics: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        z_a, z_b = unit(seen)
        temperature = self.parameters_.temperature
        mean, moment = statistics["mean"], statistics["moment"]
        return {
            "attraction": -(z_a * z_b).sum(dim=1).mean() / temperature,
            "repulsion": second_order_repulsion(mean, moment, temperature),
        }


def unit(seen: Representations) -> tuple[Tensor, Tensor]:
    """Both views' projections (N, p) in float32 at unit length."""
    return F.normalize(seen.z_a.float(), dim=1), F.normalize(seen.z_b.float(), dim=1)
