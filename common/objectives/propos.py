"""ProPos: prototypes scatter, and a neighbour drawn around an image's embedding is its positive.

L = L_BYOL(p(z + σ·ε), t) + w·½[PSL(z_a, t_b) + PSL(z_b, t_a)], ε Gaussian (positive sampling).
PSL contrasts the centres of a batch's clusters: c_k the unit-length mean of the unit-length online
projections that have pseudo-label k, c'_k the same of the target's in the other view,
PSL = -mean_k log exp(c_k·c'_k/τ) / (exp(c_k·c'_k/τ) + Σ_{j≠k} exp(c_k·c_j/τ)), over the clusters
that the batch has: an absent one is neither an anchor nor a negative.
Pseudo-labels are made anew before each epoch by spherical k-means over the site's own images, in
the stage's embedding space. In the first `warm_up` of the stage there are none, and it is BYOL.
Differences from the authors' code: pseudo-labels come from the online and not from the target
network; an absent cluster's logit is -inf and not -10; m rises to 1 as in our BYOL.
Shared: encoder, projector, predictor. Local: the target network.
Source: Huang et al., "Learning Representation for Clustering via Prototype Scattering and Positive
Sampling", TPAMI 2022 (arXiv 2111.11821), and the authors' code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from common.clustering.kmeans import kmeans
from common.losses.clusters import prototype_scattering
from common.models.encoders import Encoder
from common.objectives import byol
from common.objectives.base import LocalRound, Representations


@dataclass(frozen=True)
class Parameters(byol.Parameters):
    """BYOL's, and `noise` σ, `scatter_weight` w, `temperature` τ of the prototypes, `warm_up`: the
    share of the stage's steps before there are pseudo-labels."""

    noise: float = 0.001  # these four: the authors' configuration for CIFAR-10
    scatter_weight: float = 0.1
    temperature: float = 0.5
    warm_up: float = 0.05  # 50 of 1000 epochs


class ProPos(byol.BYOL):
    """BYOL with sampled positives, and prototypes that repel each other."""

    name = "propos"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__(encoder, parameters, clusters)
        self.settings = parameters
        self.clusters = clusters
        self._progress = 0.0  # of the stage: an epoch has to know it before its first step
        self._labels: Tensor | None = None

    def begin_round(self, site: LocalRound) -> None:
        self._progress = site.progress

    def begin_epoch(self, site: LocalRound) -> None:
        self._labels = None
        if self._progress >= self.settings.warm_up:
            points = site.embed()
            k = min(self.clusters, len(points))
            self._labels = kmeans(points, k, generator=site.generator, spherical=True).labels

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        if self._labels is None:
            return super().terms(seen)
        z_a, z_b, generator = seen.z_a, seen.z_b, seen.batch.generator
        terms = super().terms(
            seen._replace(
                z_a=self._neighbours(z_a, generator), z_b=self._neighbours(z_b, generator)
            )
        )
        labels, tau = self._labels[seen.batch.rows], self.settings.temperature
        scattering = 0.5 * (
            prototype_scattering(z_a, seen.t_b, labels, self.clusters, tau)
            + prototype_scattering(z_b, seen.t_a, labels, self.clusters, tau)
        )
        return {**terms, "scattering": self.settings.scatter_weight * scattering}

    def _neighbours(self, z: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(z.shape, generator=generator, device=generator.device).to(z.device)
        return z.float() + self.settings.noise * noise

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        self._progress = progress

    def end_round(self, site: LocalRound) -> None:
        self._labels = None
