"""Contrastive Unlearning, for sites without labels.

L = w·L_CU + L_obj(retained); u_i the encoder's output for a forgotten image, r_j for a retained
one, both of unit length, N_i and P_i the retained images of other clusters and of its own,
  L_CU = mean_i -(1/|N_i|) Σ_{a ∈ N_i} log exp(u_i·r_a/τ) / Σ_{p ∈ P_i} exp(u_i·r_p/τ),
over both views. What is forgotten leaves its own cluster's images, for those of others.
Classes are the clusters of the site's images (spherical k-means, before each pass), and what keeps
the network useful is the objective that trained it (the paper: labels, and their cross-entropy).
Differences from the authors' code: the weight of the denominator is |N_i|, as in the paper, and not
the size of the batch; each step meets other retained images; an image whose cluster has no retained
image in the batch is left out (there: log 0). The end is told without labels, by how alike views of
the forgotten images are (`client/tasks/unlearn.py`).
Source: Lee et al., "Contrastive Unlearning: A Contrastive Approach to Machine Unlearning", IJCAI
2025 (doi 10.24963/ijcai.2025/830), and the authors' code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from common.losses.unlearning import away_from_own
from common.objectives.base import Objective
from common.unlearning import base
from common.unlearning.base import Side, Unlearning, utility


@dataclass(frozen=True)
class Parameters(base.Parameters):
    """`temperature` τ; `weight` w. All three: the authors' code."""

    retained: int = 4
    temperature: float = 0.7
    weight: float = 3.0


class ContrastiveUnlearning(Unlearning):
    """Forgotten images away from their cluster's retained ones."""

    name = "contrastive-unlearning"
    title = "the forgotten images pushed away from their clusters' others, at their site"
    parameters_type = Parameters
    by_cluster = True

    def terms(self, objective: Objective, forgotten: Side, retained: Side) -> dict[str, Tensor]:
        settings, (u, own), (r, others) = self.parameters, forgotten, retained
        away = away_from_own(
            torch.cat([u.h_a, u.h_b]),
            torch.cat([r.h_a, r.h_b]),
            own.repeat(2),
            others.repeat(2),
            settings.temperature,
        )
        return {"unlearning": settings.weight * away, **utility(objective, retained)}
