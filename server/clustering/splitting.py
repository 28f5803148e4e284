"""Landmarks from sums over all sites: centres that are split in two again and again.

Linde, Buzo and Gray, "An Algorithm for Vector Quantizer Design", IEEE Trans. Commun. 28, 1980. The
first centre c is the mean direction of all images. Each of the largest becomes two, c ± ε with a
seeded ε of its own, and a step of Lloyd's algorithm follows, until there are enough; then `FINAL`
steps more. (In the paper steps go on until they settle, after each split. Three of them instead of
one took twice the exchanges, and images were no nearer to their landmarks.) For a step the sites
send of each centre how many images are nearest to it, and their sum:

    c_j ← Σ_sites s_j / |Σ_sites s_j|,      n_j = Σ_sites n_j.

Sums are the same however images are spread, and so are the landmarks, where the sites leave nothing
out: a site leaves out its part of a centre with fewer than `min-count` of its images. A centre with
fewer than `least` images of all sites is dropped before any site sees it, and its images are
counted with their next ones from then on.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from common.clustering.centroids import Centroids, unit
from common.protocol.messages import Counts, Floats
from common.utils.errors import UserError
from common.utils.seeds import generator

FINAL = 2  # steps of Lloyd's algorithm when there are enough centres
ASIDE = 0.05  # |ε|
SPARE = 2  # splits beside those that double, for centres that were dropped

Step = Callable[[Centroids], tuple[NDArray[np.float64], Counts]]
"""Sums (m, d) and numbers (m,) of all sites' images nearest to each of the centres."""


def split_landmarks(
    step: Step, width: int, wanted: Callable[[int], int], least: int, seed: int
) -> NDArray[np.float64]:
    """Landmarks (m, d) of unit length, at most as many as are `wanted` of so many images as there
    are, each the mean direction of `least` images or more. `UserError` where there are not as many
    images that the sites may tell of."""

    def moved(points: Floats) -> Centroids:
        sums, counts = step(Centroids(points, np.ones(len(points), np.int64)))
        kept = (counts >= least) & (np.linalg.norm(sums, axis=1) > 0)
        if not kept.any():
            raise UserError("no site has enough images for one landmark")
        return Centroids(unit(sums[kept]), counts[kept].astype(np.int64))

    now = moved(np.eye(1, width, dtype=np.float32))  # all images are nearest to it
    count = wanted(int(now.counts.sum()))
    for level in range((count - 1).bit_length() + SPARE):
        before, points = len(now.counts), _split(now, count, least, seed, level)
        if len(points) == before:
            break
        now = moved(points)
    for _ in range(FINAL if count > 1 else 0):
        now = moved(now.points)
    return now.points.astype(np.float64)


def _split(now: Centroids, count: int, least: int, seed: int, level: int) -> Floats:
    """The centres, of which the largest have become two, `count` in all at most."""
    largest = np.argsort(-now.counts, kind="stable")[: max(0, count - len(now.counts))]
    largest = largest[now.counts[largest] >= 2 * least]
    chance = generator("cpu", seed, "split", level)
    drawn = torch.randn(len(largest), now.points.shape[1], generator=chance)
    aside = ASIDE * unit(drawn.numpy())
    points, chosen = now.points.copy(), now.points[largest]
    points[largest] = unit(chosen + aside)
    return np.concatenate([points, unit(chosen - aside)])
