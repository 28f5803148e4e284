"""Federated k-means: Lloyd's algorithm over the sites' sums and counts.

Several sets of centroids, from different seeds, step side by side in the same exchanges; the one
with the least inertia is kept. With all sites in every exchange each step is exactly the pooled
algorithm's, however the images are spread; with some of them it is a step on their images.
"""

from collections.abc import Sequence

import numpy as np

from common.centroids import Centroids, unit
from common.seeds import derive_seed
from server.centroids import merge_centroids
from server.measurements import Measurements

RESTARTS = 8
STEPS = 25  # at most; spherical k-means has mostly settled by then
SETTLED = 1e-6  # of the inertia: a smaller gain ends it


def starts(
    local: Sequence[tuple[str, Centroids]], first: Centroids, k: int, seed: int
) -> Centroids:
    """`RESTARTS` sets of k centroids (R·k, d), one below the other: `first`, and k-means of the
    sites' local centroids from other seeds with a single start each."""
    sets = [first.points]
    for number in range(1, RESTARTS):
        merged = merge_centroids(local, None, k, derive_seed(seed, "restart", number), restarts=1)
        sets.append(merged.centroids.points)
    points = np.concatenate(sets)
    return Centroids(points, np.zeros(len(points), np.int64))


def step(sent: Centroids, measured: Measurements) -> Centroids:
    """The next sets of centroids: the direction of the sum of the images nearest to each, with
    their number. A centroid without images (or with fewer than `min-count` at every site) stays."""
    sums, counts = measured.moment("sums"), np.array(measured.sizes("lloyd"), np.int64)
    assert sums is not None
    moved = unit(sums)
    still = np.linalg.norm(moved, axis=1) == 0
    return Centroids(np.where(still[:, None], sent.points, moved), counts)


def inertias(measured: Measurements) -> list[float]:
    """Σ 1 - cos to the nearest centroid, for each set."""
    found = (measured.sum(f"inertia.{number}") for number in range(RESTARTS))
    return [value for value in found if value is not None]


def best(sets: Centroids, by: Sequence[float]) -> Centroids:
    """The set with the least inertia; its clusters ordered by size."""
    k = len(sets.counts) // len(by)
    chosen = int(np.argmin(by))
    part = slice(chosen * k, (chosen + 1) * k)
    order = np.argsort(-sets.counts[part], kind="stable")
    return Centroids(sets.points[part][order], sets.counts[part][order])


def has_settled(before: Sequence[float], now: Sequence[float]) -> bool:
    """Whether no set has gained more than a millionth since the step before."""
    return bool(before) and all(
        old - new <= SETTLED * max(old, 1e-12) for old, new in zip(before, now, strict=True)
    )
