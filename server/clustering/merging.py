"""From the sites' centroids to the global ones, whatever clusters them: who is which cluster.

A rule (`server/clustering/rules.py` has them by name) only clusters points; that clusters keep
their identity, what becomes of one without members, and that the order of arrival changes nothing,
is settled here for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from common.clustering.centroids import Centroids, of_width, unit
from common.utils.errors import UserError

Points = NDArray[np.float32]
Members = NDArray[np.int64]

Rule = Callable[[Points, Members], tuple[Points, Members]]
"""Clusters points (n, d) of unit length with counts (n,) > 0, sorted by site: centres (k', d) of
unit length, k' ≤ k, and the centre of each point (n,); none is without a point."""


@dataclass(frozen=True)
class Merged:
    """`centroids`: K global ones with the sum of their members' counts; `members`: for each site
    the global cluster of each of its local centroids."""

    centroids: Centroids
    members: Mapping[str, Members]


def merge_by(
    rule: Rule, local: Sequence[tuple[str, Centroids]], previous: Centroids | None, k: int
) -> Merged:
    """Cluster all local centroids by `rule` into `k` global ones.

    Local centroids with count 0 have no say; they are members of the nearest global cluster.
    Clusters keep their identity: they are matched one to one with `previous` by cosine (Hungarian);
    without `previous`, or with one of another width, they are ordered by count. A cluster without
    members (also where the rule finds fewer than `k`) keeps its previous centre with count 0, or
    without `previous` repeats one of the others with count 0. `UserError` where there is neither a
    local centroid nor a previous one.
    """
    sites = sorted(local, key=lambda item: item[0])
    if len({site for site, _ in sites}) < len(sites):
        raise ValueError("two sets of centroids from one site")
    points = unit(np.concatenate([centroids.points for _, centroids in sites]))
    counts = np.concatenate([centroids.counts for _, centroids in sites])
    previous = _comparable(previous, k, points.shape[1])
    used = counts > 0
    if not used.any():
        centroids = _emptied(previous)
        return Merged(centroids, _by_site(sites, nearest(points, centroids.points)))
    centres, assigned = rule(points[used], counts[used])
    sizes = np.zeros(len(centres), np.int64)
    np.add.at(sizes, assigned, counts[used])
    identity = _identities(centres, sizes, previous)
    merged = _place(centres, sizes, identity, previous, k)
    members = np.empty(len(points), np.int64)
    members[used] = identity[assigned]
    members[~used] = identity[nearest(points[~used], centres)]
    return Merged(merged, _by_site(sites, members))


def identify(found: Centroids, previous: Centroids | None) -> Centroids:
    """All K centroids in the order that `merge_by` would give them."""
    previous = _comparable(previous, *found.points.shape)
    identity = _identities(found.points, found.counts, previous)
    return _place(found.points, found.counts, identity, previous, len(found.points))


def nearest(points: Points, centres: Points) -> Members:
    """Index (n,) of the centre (k, d) with the largest cosine."""
    found: Members = (points @ centres.T).argmax(axis=1).astype(np.int64)
    return found


def _comparable(previous: Centroids | None, k: int, width: int) -> Centroids | None:
    """`previous`, unless it is of another embedding; `ValueError` if it is not of k clusters."""
    fitting = of_width(previous, width)
    if fitting is not None and len(fitting.points) != k:
        raise ValueError(f"{len(fitting.points)} previous centroids for {k} clusters")
    return fitting


def _emptied(previous: Centroids | None) -> Centroids:
    if previous is None:
        raise UserError("no site sent a centroid: do all have fewer images than min-count?")
    return Centroids(previous.points, np.zeros_like(previous.counts))


def _identities(centres: Points, sizes: Members, previous: Centroids | None) -> Members:
    """The global cluster of each new centre (k',)."""
    identity = np.empty(len(centres), np.int64)
    if previous is None:
        identity[np.argsort(-sizes, kind="stable")] = np.arange(len(centres))
    else:
        rows, columns = linear_sum_assignment(centres @ previous.points.T, maximize=True)
        identity[rows] = columns
    return identity


def _place(
    centres: Points,
    sizes: Members,
    identity: Members,
    previous: Centroids | None,
    k: int,
) -> Centroids:
    """The centres at their identities, and something in the places that are left."""
    order = np.argsort(identity)
    filler = np.resize(centres[order], (k, centres.shape[1]))
    points = filler.copy() if previous is None else previous.points.copy()
    counts = np.zeros(k, np.int64)
    points[identity] = centres
    counts[identity] = sizes
    return Centroids(points, counts)


def _by_site(sites: Sequence[tuple[str, Centroids]], members: Members) -> dict[str, Members]:
    bounds = np.cumsum([len(centroids.points) for _, centroids in sites])[:-1]
    pieces = np.split(members, bounds)
    return {site: piece for (site, _), piece in zip(sites, pieces, strict=True)}
