"""Spectral contrast against everybody's images: second moments that the federation shares.

With z on the sphere of radius √r and R = E[z zᵀ] over all images and both views,
    L = -2·E[z_a·z_b] + tr(R²)
is the spectral contrastive loss: its repulsion needs no negative images, only their second moment.
A site that holds one class lacks the other classes' images, but not their moment: a round begins
with R̄, the mean over the sites of their R⁰_k under the model that all have received, and each
trains on
    L_k = -2·E_k[z_a·z_b] + β·tr(R_k²) + 2·tr(R_k (R̄ - β·R⁰_k)),
R_k of its batch. The gradient of the last two terms is that of 2·tr(R_k (R̄ + β(R_k - R⁰_k))) with
the bracket held fixed: everybody's moment, moved on by β times what the own one has moved (a
control variate, as in SCAFFOLD: Karimireddy et al., ICML 2020), so that local steps do not
overshoot. β says how far the own moment speaks for everybody's: the share of R̄ that it explains,
    β = 1 - ‖R⁰_k - R̄‖² / ‖R̄‖²,   at least `own`:
about 1 where sites are alike, its least where each has a class of its own; nobody sets it by hand.
In a synchronous stage every batch is everybody's, R is the batch's over all sites and the loss is L
(`common/objectives/pooled.py`).
At the first step, were it on all images of each site, the mean of the sites' gradients is the
pooled loss's, however the images are spread and whatever β (of batches, up to the variance of R_k);
with one site R̄ is its R⁰_k, of the same views, and L_k is L.
Shared: encoder, projector, and R̄, p × p numbers. Local: nothing.
BatchNorm in training mode subtracts a one-class site's class: use `normalisation = "group"`.
Sources: the loss: HaoChen, Wei, Gaidon and Ma, NeurIPS 2021 (arXiv 2106.04156), eq. 6; sharing the
moment: ours (`docs/researcher/covey.md`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.losses.spectral import explained, repulsion, second_moment
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import LocalRound, Representations
from common.objectives.pooled import Pooled


@dataclass(frozen=True)
class Parameters:
    """`squared_radius` r; `own`: the least β, about a site's share of the images; `hidden` and
    `width`: the projector's layers."""

    squared_radius: float = 4.0
    own: float = 0.1
    hidden: int = 256
    width: int = 64


class SecondMoment(nn.Module):
    """R̄ (p, p): a parameter without gradient, so that it is sent and averaged like the others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(width, width), requires_grad=False)


class SpectralContrastive(Pooled):
    """Two views attract; the second moment of all sites' images repels."""

    name = "spectral-contrastive"
    parameters_type = Parameters
    prepares = "moment"

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.encoder = encoder
        self.projector = mlp(encoder.feature_dim, parameters.hidden, parameters.width)
        self.moment = SecondMoment(parameters.width)
        self._everybody: tuple[Tensor, Tensor] | None = None  # R̄ - β·R⁰_k and β, in a round

    @torch.no_grad()
    def begin_round(self, site: LocalRound) -> None:
        self.eval()
        own = self.means_at(site)["value"]
        weight = explained(own, self.moment.value).clamp_min(self.parameters_.own)
        self._everybody = (self.moment.value - weight * own, weight)
        self.train()

    def end_round(self, site: LocalRound) -> None:
        self._everybody = None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"value": tuple(self.moment.value.shape)}

    def statistics(self, seen: Representations) -> dict[str, Tensor]:
        z = torch.cat([self._on_sphere(z) for z in (seen.z_a, seen.z_b)])
        return {"value": second_moment(z)}

    def by_statistics(
        self, seen: Representations, statistics: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        z_a, z_b = (self._on_sphere(z) for z in (seen.z_a, seen.z_b))
        return {
            "attraction": -2 * (z_a * z_b).sum(dim=1).mean(),
            "repulsion": repulsion(statistics["value"]),
        }

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        z_a, z_b = (self._on_sphere(z) for z in (seen.z_a, seen.z_b))
        moment = second_moment(torch.cat([z_a, z_b]))
        return {
            "attraction": -2 * (z_a * z_b).sum(dim=1).mean(),
            "repulsion": repulsion(moment, *(self._everybody or ())),
        }

    def shared(self) -> dict[str, nn.Module]:
        return {**super().shared(), "moment": self.moment}

    def _on_sphere(self, z: Tensor) -> Tensor:
        on_sphere: Tensor = F.normalize(z.float(), dim=1) * self.parameters_.squared_radius**0.5
        return on_sphere
