"""Federated k-means: Lloyd's algorithm over the sites' sums and counts.

With all sites in an exchange, and `min-count` 1, a step is exactly the pooled spherical k-means',
however the images are spread: the sites send the sum S_c and the number N_c of the images nearest
to centroid c, and the new centroid is the direction of ΣS_c. A centroid without images stays. (With
a larger `min-count` a site leaves out what it has too few images of.)

With some of the sites (partial participation, a site that did not answer) it is a mini-batch step,
in which the images of the others count as they were last seen, fading:

    S_c ← (1 - q)·S_c + ΣS_c,        N_c ← (1 - q)·N_c + ΣN_c,

with q the share of the federation's images that are behind the exchange. In expectation N_c stays
the size of the whole cluster, and with q = 1 this is the step above. (Mini-batch k-means (Sculley,
WWW 2010) never forgets what a centroid was given while it was elsewhere; this is k-means by moving
averages, as of VQ-VAE's codebook: van den Oord et al., NeurIPS 2017, arXiv 1711.00937, appendix
A.1.) The first S_c and N_c are those of the merged local centroids.

With the centroids `robust-lloyd` the sites' sums are put to the vote instead of added up, so that
some Byzantine ones cannot move a centroid at will (`server/aggregation/robust.py`).

Many sets of centroids, from different seeds, step side by side in the same exchanges. Where a set
begins says much of where it ends, so the worse half is given up again and again until a few are
left (successive halving: Karnin, Koren and Somekh, ICML 2013); of those the one with the least
inertia is kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.clustering.centroids import Centroids, unit
from common.protocol.exchanges import MOST_SETS
from common.protocol.messages import Floats
from common.utils.seeds import derive_seed
from server.clustering.merging import identify
from server.clustering.rules import merge_centroids
from server.measurements import Measurements

KEPT = 8  # sets that go on to the end
STEPS = 12  # at most, with all sites: from merged local centroids little moves later
STEPS_OF_EACH = 25  # exchanges that each site is in, where only a part is asked at a time
MOST = 100  # exchanges in all
SETTLED = 1e-8  # squared shift of every centroid: smaller ones end it

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class Clustering:
    """Sets of k centroids under way: `points` (R·k, d) of unit length, one set below the other;
    `sums` (R·k, d) and `counts` (R·k,) of the images behind each; `inertia` (R,): Σ 1 - cos to the
    nearest, of the centroids before the last step."""

    points: Floats
    sums: Sums
    counts: Sums
    inertia: Sums

    def sent(self) -> Centroids:
        """What the sites are to count by."""
        return Centroids(self.points, np.rint(self.counts).astype(np.int64))


def starts(
    local: Sequence[tuple[str, Centroids]], first: Centroids, k: int, seed: int
) -> Clustering:
    """`MOST_SETS` sets of k centroids: `first`, and k-means of the sites' local centroids from
    other seeds with a single start each."""
    sets = [first]
    for number in range(1, MOST_SETS):
        merged = merge_centroids(local, None, k, derive_seed(seed, "restart", number), restarts=1)
        sets.append(merged.centroids)
    points = np.concatenate([centroids.points for centroids in sets])
    counts = np.concatenate([centroids.counts for centroids in sets]).astype(np.float64)
    return Clustering(points, points * counts[:, None], counts, np.zeros(MOST_SETS))


def steps(participation: float) -> int:
    """Exchanges at most."""
    if participation == 1:
        return STEPS
    return min(MOST, math.ceil(STEPS_OF_EACH / participation))


def step(now: Clustering, measured: Measurements, share: float) -> Clustering:
    """The next sets of centroids. `share` q in [0, 1]: of the federation's images, those that
    `measured` is of. A site leaves out clusters below its `min-count`."""
    kept = 1 - share
    found, counted = measured.totals.sum("sums"), measured.totals.table("lloyd")
    assert found is not None and counted is not None  # replies without these are refused
    sums = kept * now.sums + found
    still = np.linalg.norm(sums, axis=1, keepdims=True) == 0
    return Clustering(
        np.where(still, now.points, unit(sums)),
        sums,
        kept * now.counts + counted.sizes,
        kept * now.inertia + measured.inertias(len(now.inertia)),
    )


def fewer(now: Clustering, number: int, participation: float) -> Clustering:
    """The better half of the sets after exchange `number`, but `KEPT` at least. Each time where all
    sites are asked; else when each has been asked about twice, so that no set is judged by some."""
    every = 1 if participation == 1 else math.ceil(2 / participation)
    sets = len(now.inertia)
    if sets <= KEPT or number % every:
        return now
    best_first = np.argsort(now.inertia, kind="stable")
    kept = np.sort(best_first[: max(KEPT, sets // 2)])
    k = len(now.counts) // sets
    rows = (kept[:, None] * k + np.arange(k)).ravel()
    return Clustering(now.points[rows], now.sums[rows], now.counts[rows], now.inertia[kept])


def has_settled(before: Clustering, now: Clustering) -> bool:
    """Whether no centroid has moved."""
    shifts = np.square(now.points.astype(np.float64) - before.points).sum(axis=1)
    return bool(shifts.max() <= SETTLED)


def best(sets: Clustering, previous: Centroids | None) -> Centroids:
    """The set with the least inertia; its clusters are matched with `previous`."""
    k = len(sets.counts) // len(sets.inertia)
    chosen = int(np.argmin(sets.inertia))
    part = slice(chosen * k, (chosen + 1) * k)
    sent = sets.sent()
    return identify(Centroids(sent.points[part], sent.counts[part]), previous)
