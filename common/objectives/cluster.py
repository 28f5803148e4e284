"""Stage 2: a cluster head, contrasted by columns, with the stage-1 loss kept on.

The head maps an encoder output to K soft assignments. Over a batch, column k of C_a (N, K) is what
cluster k looks like in view a; it should look the same in view b and unlike every other cluster.
L = μ·L_1 + NT-Xent(C_aᵀ, C_bᵀ; τ_c) + w·Σ_views (log K + Σ_k P_k log P_k), P = mean assignment.
The head is linear on the unit sphere, softmax(cos(h, c_k) / τ_h), and starts from the global
centroids that stage 1 ended with, so its K rows are the clusters' centroids and stay so; or an MLP
that starts at random (`head = "mlp"`), as in the paper of the columns.
The non-contrastive variant replaces NT-Xent with mean_k (1 - r_k), r_k Pearson's correlation of
column k in the two views. (Cosines of the columns as they are would be 1 where every image has the
same assignment, so that flat assignments would cost nothing.)
Shared: what stage 1 shares, and the cluster head. Local: what stage 1 keeps.
Sources: Li et al., "Contrastive Clustering", AAAI 2021 (arXiv 2009.09687), eqs. 4 to 6; Miao and
Koyuncu, IEEE JSTSP 18(6), 2024 (two stages; our reconstruction).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.losses.clusters import correlations, imbalance
from common.losses.contrastive import nt_xent
from common.models.encoders import Encoder
from common.models.heads import CentroidHead, mlp
from common.objectives.base import Objective, Representations
from common.objectives.wrapper import Wrapper
from common.utils.errors import unknown


@dataclass(frozen=True)
class Parameters:
    """`first`: the stage-1 objective, `first_weight` μ; `cluster_temperature` τ_c;
    `entropy_weight` w; `contrastive`: columns against each other, or without negatives; `head`:
    centroids, or mlp; `head_temperature` τ_h."""

    first: str = "simclr"
    first_weight: float = 1.0
    cluster_temperature: float = 1.0
    entropy_weight: float = 1.0
    contrastive: bool = True
    head: str = "centroids"
    head_temperature: float = 0.1


def mlp_head(width: int, clusters: int, temperature: float) -> nn.Module:
    """An MLP with a hidden layer as wide as 256, initialised at random."""
    return mlp(width, 256, clusters)


HEADS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "centroids": CentroidHead,
    "mlp": mlp_head,
}


class Cluster(Wrapper):
    """Contrastive clustering on top of `inner`, a stage-1 objective."""

    def __init__(
        self, encoder: Encoder, parameters: Parameters, clusters: int, first: Objective
    ) -> None:
        super().__init__(first)
        if parameters.head not in HEADS:
            raise unknown("head of objective 'cluster'", parameters.head, HEADS)
        self.settings = parameters
        self.cluster_head = HEADS[parameters.head](
            encoder.feature_dim, clusters, parameters.head_temperature
        )

    def start_from(self, centroids: Tensor) -> None:
        if isinstance(self.cluster_head, CentroidHead):
            self.cluster_head.start_from(centroids)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        settings = self.settings
        logits: Tensor = self.cluster_head(torch.cat([seen.h_a, seen.h_b]))
        c_a, c_b = logits.float().softmax(dim=1).chunk(2)
        first = self.inner.terms(seen)
        terms = {name: settings.first_weight * term for name, term in first.items()}
        if settings.contrastive:
            terms["columns"] = nt_xent(c_a.T, c_b.T, settings.cluster_temperature)
        else:
            terms["columns"] = 1 - correlations(c_a, c_b).mean()
        terms["entropy"] = settings.entropy_weight * (imbalance(c_a) + imbalance(c_b))
        return terms

    def shared(self) -> dict[str, nn.Module]:
        return {**self.inner.shared(), "cluster_head": self.cluster_head}

    def assignments(self, h: Tensor) -> Tensor:
        logits: Tensor = self.cluster_head(h)
        return torch.softmax(logits, dim=1)
