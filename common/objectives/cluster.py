"""Stage 2: a cluster head, contrasted by columns, with the stage-1 loss kept on.

The head maps an encoder output to K soft assignments. Over a batch, column k of C_a (N, K) is what
cluster k looks like in view a; it should look the same in view b and unlike every other cluster.
L = μ·L_1 + NT-Xent(C_aᵀ, C_bᵀ; τ_c) + w·Σ_views (log K + Σ_k P_k log P_k), P = mean assignment.
The non-contrastive variant replaces NT-Xent with mean_k (2 - 2 cos(col_k(C_a), sg col_k(C_b))),
symmetric in the views.
Shared: what stage 1 shares, and the cluster head. Local: what stage 1 keeps.
Sources: Li et al., "Contrastive Clustering", AAAI 2021 (arXiv 2009.09687), eqs. 4 to 6; Miao and
Koyuncu, IEEE JSTSP 18(6), 2024 (two stages; our reconstruction).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.encoders import Encoder
from common.objectives.base import Objective, Representations, mlp
from common.objectives.byol import prediction_error
from common.objectives.nt_xent import nt_xent


@dataclass(frozen=True)
class Parameters:
    """`first`: the stage-1 objective, `first_weight` μ; `cluster_temperature` τ_c;
    `entropy_weight` w; `contrastive`: columns against each other, or without negatives."""

    first: str = "simclr"
    first_weight: float = 1.0
    cluster_temperature: float = 1.0
    entropy_weight: float = 1.0
    contrastive: bool = True
    head_hidden: int = 256


class Cluster(Objective):
    """Contrastive clustering on top of `first`, an objective that shares its encoder."""

    Parameters = Parameters

    def __init__(
        self, encoder: Encoder, parameters: Parameters, clusters: int, first: Objective
    ) -> None:
        super().__init__()
        self.settings = parameters
        self.first = first
        self.encoder = encoder
        self.projector = first.projector
        self.cluster_head = mlp(encoder.feature_dim, parameters.head_hidden, clusters)

    def represent(self, a: Tensor, b: Tensor) -> Representations:
        return self.first.represent(a, b)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        settings = self.settings
        logits: Tensor = self.cluster_head(torch.cat([seen.h_a, seen.h_b]))
        c_a, c_b = logits.float().softmax(dim=1).chunk(2)
        first = self.first.terms(seen)
        terms = {name: settings.first_weight * term for name, term in first.items()}
        if settings.contrastive:
            terms["columns"] = nt_xent(c_a.T, c_b.T, settings.cluster_temperature)
        else:
            terms["columns"] = 0.5 * (
                prediction_error(c_a.T, c_b.T) + prediction_error(c_b.T, c_a.T)
            )
        terms["entropy"] = settings.entropy_weight * (imbalance(c_a) + imbalance(c_b))
        return terms

    def after_step(self, progress: float) -> None:
        self.first.after_step(progress)

    def shared(self) -> dict[str, nn.Module]:
        return {**self.first.shared(), "cluster_head": self.cluster_head}

    def local(self) -> dict[str, nn.Module]:
        return self.first.local()

    def restart_local(self) -> None:
        self.first.restart_local()

    def assignments(self, h: Tensor) -> Tensor:
        logits: Tensor = self.cluster_head(h)
        return logits.softmax(dim=1)


def imbalance(assignments: Tensor) -> Tensor:
    """log K + Σ_k P_k log P_k of soft assignments (N, K), P their mean: 0 when clusters are
    equally large, log K when all images are in one."""
    mean = assignments.mean(dim=0)
    return math.log(mean.numel()) + torch.special.xlogy(mean, mean).sum()
