"""Which pictures a gallery shows: of each cluster the central, the doubtful and some at random.

The numbers are bounded, so that the page of 50,000 pictures, or of 10,000 clusters, can be opened
on a telephone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.utils.seeds import derive_seed

TILES = 1440  # pictures in all strips of the page
STRIP, SHORTEST = 8, 2  # pictures in one strip
MAPPED = 800  # pictures in the map

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """N pictures by a model. `names`; `cluster`, `runner_up` (N,); `distance` and `confidence` (N,)
    as `client.statistics.assigned.Assigned` has them."""

    names: Sequence[str]
    cluster: Rows
    runner_up: Rows
    distance: Floats
    confidence: Floats


@dataclass(frozen=True)
class Strip:
    """Pictures of one cluster that are shown beside each other, as rows of `Seen`."""

    title: str
    about: str
    rows: tuple[int, ...]


def strips(seen: Seen, clusters: int, seed: int) -> dict[int, tuple[Strip, ...]]:
    """The strips of each cluster that has pictures here and is shown with them, the largest first.
    Of very many clusters only the largest are."""
    sizes = np.bincount(seen.cluster, minlength=clusters)
    largest = [int(k) for k in np.argsort(-sizes, kind="stable") if sizes[k]]
    length = max(SHORTEST, min(STRIP, TILES // (3 * max(1, len(largest)))))
    rng = np.random.default_rng(derive_seed(seed, "gallery"))
    return {k: _of(seen, k, length, rng) for k in largest[: TILES // (3 * length)]}


def _of(seen: Seen, cluster: int, length: int, rng: np.random.Generator) -> tuple[Strip, ...]:
    rows = np.flatnonzero(seen.cluster == cluster)
    central = rows[np.argsort(seen.distance[rows], kind="stable")][:length]
    left = np.setdiff1d(rows, central)
    doubtful = left[np.argsort(seen.confidence[left], kind="stable")][:length]
    left = np.setdiff1d(left, doubtful)
    drawn = rng.permutation(left)[:length]
    found = (
        Strip("Central", "nearest to the cluster's centre", _plain(central)),
        Strip("Doubtful", "nearly as near to another cluster", _plain(doubtful)),
        Strip("At random", "drawn from all others", _plain(drawn)),
    )
    return tuple(each for each in found if each.rows)


def mapped(count: int, seed: int) -> Rows:
    """Rows of the pictures in the map, ascending: all, or a sample."""
    rng = np.random.default_rng(derive_seed(seed, "gallery map"))
    return np.sort(rng.permutation(count)[:MAPPED])


def _plain(rows: Rows) -> tuple[int, ...]:
    return tuple(int(row) for row in rows)
