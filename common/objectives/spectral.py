"""Spectral contrast against everybody's images: second moments that the federation shares.

With z on the sphere of radius √r and R = E[z zᵀ] over all images and both views,
    L = -2·E[z_a·z_b] + tr(R²)
is the spectral contrastive loss: its repulsion needs no negative images, only their second moment.
A site that holds one class lacks the other classes' images, but not their moment: a round begins
with R̄, the mean over the sites of their R under the model that all have received, and each trains
on
    L_k = -2·E_k[z_a·z_b] + α·tr(R_k²) + 2(1 - α)·tr(R_k R̄),
R_k of its batch. At the first step its gradient, averaged over the sites, is the pooled one's; with
more local steps R̄ grows stale, against which α, the weight of the own batch, holds. (The R̄ of the
round before, which would save an exchange, is too stale: training swings; `docs/covey.md`.)
Shared: encoder, projector, and R̄, p × p numbers. Local: nothing.
BatchNorm in training mode subtracts a one-class site's class: use `normalisation = "group"`.
Sources: the loss: HaoChen, Wei, Gaidon and Ma, NeurIPS 2021 (arXiv 2106.04156), eq. 6; sharing the
moment: ours (`docs/covey.md`).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.encoders import Encoder
from common.objectives.base import LocalRound, Objective, Representations, mlp


@dataclass(frozen=True)
class Parameters:
    """`own` α; `squared_radius` r; `hidden` and `width`: the projector's layers."""

    own: float = 0.1
    squared_radius: float = 4.0
    hidden: int = 256
    width: int = 64


class SecondMoment(nn.Module):
    """R̄ (p, p): a parameter without gradient, so that it is sent and averaged like the others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(width, width), requires_grad=False)


class Spectral(Objective):
    """Two views attract; the second moment of all sites' images repels."""

    parameters_type = Parameters
    prepares = "moment"

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        if not 0 <= parameters.own <= 1:
            raise ValueError(f"own must be in [0, 1], got {parameters.own}")
        self.parameters_ = parameters
        self.encoder = encoder
        self.projector = mlp(encoder.feature_dim, parameters.hidden, parameters.width)
        self.moment = SecondMoment(parameters.width)

    def prepare(self, site: LocalRound) -> None:
        """R of the site's images: the mean over batches of two views, weighted by their sizes."""
        total, images = torch.zeros_like(self.moment.value), 0
        for batch in site.views():
            z = self.projector(self.encoder(torch.cat([batch.a, batch.b])))
            total += second_moment(self._on_sphere(z)) * len(batch.a)
            images += len(batch.a)
        self.moment.value.copy_(total / images)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        z_a, z_b = (self._on_sphere(z) for z in (seen.z_a, seen.z_b))
        moment = second_moment(torch.cat([z_a, z_b]))
        return {
            "attraction": -2 * (z_a * z_b).sum(dim=1).mean(),
            "repulsion": shared_repulsion(moment, self.moment.value, self.parameters_.own),
        }

    def shared(self) -> dict[str, nn.Module]:
        return {**super().shared(), "moment": self.moment}

    def _on_sphere(self, z: Tensor) -> Tensor:
        on_sphere: Tensor = F.normalize(z.float(), dim=1) * self.parameters_.squared_radius**0.5
        return on_sphere


def second_moment(z: Tensor) -> Tensor:
    """E[z zᵀ] (p, p) of the rows of z (N, p)."""
    with torch.autocast(z.device.type, enabled=False):
        moment: Tensor = z.T @ z / len(z)
    return moment


def shared_repulsion(moment: Tensor, received: Tensor, own: float) -> Tensor:
    """α·tr(R²) + 2(1 - α)·tr(R R̄) of symmetric R, R̄ (p, p)."""
    if moment.shape != received.shape or moment.shape[0] != moment.shape[-1]:
        raise ValueError(f"moments {tuple(moment.shape)} and {tuple(received.shape)} do not fit")
    repulsion: Tensor = own * moment.square().sum() + 2 * (1 - own) * (moment * received).sum()
    return repulsion
