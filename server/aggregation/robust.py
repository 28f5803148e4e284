"""What the server concludes from sums and centroids although some sites may be Byzantine.

The sites' updates are the matter of `server/aggregation/`. What else teaches the federation are
sums (moments, Lloyd's steps) and the sites' centroids; here they are taken so that `Suspects`
cannot move them at will. All sites' sums are kept for it until the exchange is over. Figures of
merit (tables, losses, scores) stay plain sums: a site that lies about those spoils the report, not
the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.clustering.centroids import Centroids, unit
from common.config.byzantine import CENTROIDS_MARGIN, MARGIN, ROBUST_CENTROIDS
from common.config.options import Stage
from server.aggregation import ROBUST, Suspects
from server.aggregation.geometric_median import geometric_median
from server.aggregation.krum import best
from server.aggregation.rows import Doubles, Rows

Sites = Sequence[tuple[str, Centroids]]
OF_MOMENTS = ROBUST | {"median": geometric_median, "trimmed-mean": geometric_median}
"""Robust aggregation -> its rule for moments. Number by number, sums of x xᵀ lose what makes them
such: their small eigenvalues, by which `covey` solves its projection, become chance. The geometric
median is a weighted mean of whole ones, and withstands as many sites."""


@dataclass(frozen=True)
class Defence:
    """How an exchange withstands `suspects`: by which robust `aggregation` ("": none), and whether
    its `centroids` and Lloyd's steps are robust."""

    suspects: Suspects
    aggregation: str = ""
    centroids: bool = False

    @classmethod
    def of(cls, stage: Stage, byzantine: int) -> "Defence":
        """What a stage says, against `byzantine` sites."""
        rule = stage.aggregation if stage.aggregation in MARGIN else ""
        return cls(Suspects(byzantine), rule, stage.centroids in ROBUST_CENTROIDS)

    def total(self, sums: Sequence[tuple[int, Doubles]]) -> Doubles:
        """A moment over all sites, from each one's number of images and sum: the aggregation of
        what it sends by the image (`OF_MOMENTS`), times all images."""
        f = self.suspects.require(len(sums), MARGIN[self.aggregation], self.aggregation)
        rows = [values.ravel() / images for images, values in sums]
        rows.sort(key=lambda row: row.tobytes())  # rounding does not know the order of arrival
        (mean,) = OF_MOMENTS[self.aggregation]([Rows(rows, np.zeros_like(rows[0]))], f)
        total: Doubles = mean * sum(images for images, _ in sums)
        return total.reshape(sums[0][1].shape)

    def steps(self, sums: Sequence[Doubles], counts: Sequence[NDArray[np.int64]]) -> Doubles:
        """Lloyd's sums (K, d), from each site's (K, d) and counts (K,) (`voted_sums`)."""
        return voted_sums(np.stack(sums), np.stack(counts), self.suspects.left)

    def inertia(self, values: Sequence[float], images: Sequence[int]) -> float:
        """The median site's, by the image, times all images."""
        by_image = np.array(values) / np.array(images)
        return float(np.median(by_image) * sum(images))

    def believed(self, local: Sites) -> Sites:
        """The sites' centroids; where they are defended, with the counts of `central`."""
        if not self.centroids:
            return local
        having = sum(bool(centroids.counts.any()) for _, centroids in local)
        return central(local, self.suspects.require(having, CENTROIDS_MARGIN, "robust centroids"))


def voted_sums(sums: Doubles, counts: NDArray[np.int64], byzantine: int) -> Doubles:
    """Sums (K, d) for a step of Lloyd's algorithm, from the sites' (n, K, d) and counts (n, K).

    Each site that has images nearest to a centroid has one vote: their mean. The coordinate-wise
    median of the votes, times the number of images, is the centroid's sum. Where no more than 2f
    sites vote, f of them could decide it: the sum is 0, and the centroid stays.
    """
    voted = np.zeros(sums.shape[1:])
    for c in range(len(voted)):
        voters = counts[:, c] > 0
        if voters.sum() > 2 * byzantine:
            votes = sums[voters, c] / counts[voters, c, None]
            voted[c] = np.median(votes, axis=0) * counts[voters, c].sum()
    return voted


def central(local: Sites, byzantine: int) -> Sites:
    """The same centroids with new counts: 0 at the f sites whose sets are farthest from the others.

    Sets are compared by `set_distance` and chosen as multi-Krum chooses updates. A site's counts
    are scaled down to the f + 1st largest total, which is no more than an honest site's, so that
    none buys weight with a number. Sites without images in a centroid are left out of it. Where the
    sites hold different classes their sets honestly differ, and this leaves out the rarest.
    """
    sites = sorted(local, key=lambda item: item[0])
    having = [i for i, (_, centroids) in enumerate(sites) if centroids.counts.any()]
    sets = [used(sites[i][1]) for i in having]
    distances = np.array([[set_distance(a, b) for b in sets] for a in sets])
    chosen = {having[i] for i in best(distances, byzantine, len(having) - byzantine)}
    totals = [int(centroids.counts.sum()) for _, centroids in sites]
    most = sorted(totals)[-(byzantine + 1)]
    return [
        (site, Centroids(centroids.points, capped(centroids.counts, most if i in chosen else 0)))
        for i, (site, centroids) in enumerate(sites)
    ]


def used(centroids: Centroids) -> Centroids:
    """Those with images behind them, at unit length."""
    kept = centroids.counts > 0
    return Centroids(unit(centroids.points[kept]), centroids.counts[kept])


def set_distance(a: Centroids, b: Centroids) -> float:
    """How far two sets of centroids are from each other, however each numbers them: the mean over
    the images behind a of 1 - cos to the nearest centroid of b, and the same from b to a."""
    cosines = a.points.astype(np.float64) @ b.points.astype(np.float64).T
    there = np.average(1 - cosines.max(axis=1), weights=a.counts)
    back = np.average(1 - cosines.max(axis=0), weights=b.counts)
    return float(there + back)


def capped(counts: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Counts (K,) with a sum of about `most`, or as they are if it is less; none but those of 0, or
    all with `most` 0, become 0."""
    total = int(counts.sum())
    if total <= most:
        return counts
    if not most:
        return np.zeros_like(counts)
    scaled: NDArray[np.int64] = np.rint(counts * (most / total)).astype(np.int64)
    scaled[(counts > 0) & (scaled == 0)] = 1
    return scaled
