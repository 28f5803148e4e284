"""Where each image belongs, and how sure that is."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from client.statistics.clusters import ROWS


@dataclass(frozen=True)
class Assigned:
    """Where each of N images belongs: the nearest of the centroids and the second nearest (itself
    where there is one alone), its cosine `distance` to the nearest, in [0, 2], and how much nearer
    that is than the second: `confidence` (b - a) / b of the two distances a and b, in [0, 1]; 0 is
    half-way between two clusters (the simplified silhouette, Hruschka et al., 2004)."""

    cluster: Tensor
    runner_up: Tensor
    distance: Tensor
    confidence: Tensor


def assign(points: Tensor, centroids: Tensor) -> Assigned:
    """For unit-length `points` (N, d) and `centroids` (K, d)."""
    centres, several = F.normalize(centroids.float(), dim=1), min(2, len(centroids))
    near = [(rows.float() @ centres.T).topk(several, dim=1) for rows in points.split(ROWS)]
    apart = (1 - torch.cat([each.values for each in near])).clamp(0, 2)
    order = torch.cat([each.indices for each in near])
    first, second = apart[:, 0], apart[:, several - 1]
    sure = torch.ones_like(first) if several == 1 else (second - first) / second.clamp_min(1e-12)
    return Assigned(order[:, 0], order[:, several - 1], first, sure.clamp(0, 1))
