"""A site's own clusters: which there are, and which of them may leave the site.

However a site finds them (k-means here, k-FED in `client/statistics/kfed.py`), they pass through
`large_enough` before they are sent.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.clustering.centroids import Centroids
from common.clustering.kmeans import kmeans
from common.models.whole import cosines

ROWS = 1024  # of one block of similarities


@dataclass(frozen=True)
class LocalClusters:
    """A site's own clusters: what is sent, and which of them each image is in (N,)."""

    centroids: Centroids
    labels: Tensor


def local_clusters(
    points: Tensor, k: int, min_count: int, generator: torch.Generator
) -> LocalClusters:
    """k-means on unit-length `points` (N, d), k capped by the distinct ones; `large_enough`."""
    found = kmeans(points, most(len(points), k, min_count), spherical=True, generator=generator)
    return large_enough(points, found.centroids, found.counts, min_count)


def most(images: int, k: int, min_count: int) -> int:
    """As many of `k` clusters as can have `min_count` images each, at least one."""
    return max(1, min(k, images // min_count))


def large_enough(points: Tensor, centres: Tensor, counts: Tensor, min_count: int) -> LocalClusters:
    """The clusters around `centres` (k, d) whose `counts` (k,) reach `min_count`.

    A smaller one is dissolved into its neighbours: no centroid stands for a handful of images. A
    site with fewer images than that in all sends none.
    """
    kept = counts >= min_count
    if not bool(kept.any()):
        none = Centroids(np.zeros((0, points.shape[1]), np.float32), np.zeros(0, np.int64))
        return LocalClusters(none, torch.zeros(len(points), dtype=torch.long, device=points.device))
    centres = centres[kept]
    labels = nearest(points, centres)
    counts = torch.bincount(labels, minlength=len(centres))
    if bool((counts < min_count).any()):  # of an algorithm that had not settled
        return large_enough(points, centres, counts, min_count)
    sent = Centroids(
        F.normalize(centres, dim=1).cpu().numpy().astype(np.float32),
        counts.cpu().numpy().astype(np.int64),
    )
    return LocalClusters(sent, labels)


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Index (N,) of the unit-length centre (K, d) with the largest cosine; points of multiples of
    2^-14 have the same one in any batch."""
    return torch.cat([cosines(chunk, centres).argmax(dim=1) for chunk in points.split(ROWS)])
