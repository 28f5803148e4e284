"""The sites' centroids as one set: count-weighted spherical k-means with stable identities.

The result depends on the set of local centroids and the seed, not on the order of arrival. To add
another way to merge, write it here with the same signature and property tests.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from common.centroids import Centroids, unit
from common.errors import UserError
from common.kmeans import kmeans
from common.seeds import generator

RESTARTS = 16  # there are few local centroids, so many restarts cost little

Members = NDArray[np.int64]


@dataclass(frozen=True)
class Merged:
    """`centroids`: K global ones with the sum of their members' counts; `members`: for each site
    the global cluster of each of its local centroids."""

    centroids: Centroids
    members: Mapping[str, Members]


def merge_centroids(
    local: Sequence[tuple[str, Centroids]],
    previous: Centroids | None,
    k: int,
    seed: int,
    restarts: int = RESTARTS,
) -> Merged:
    """Cluster all local centroids, each with its count as weight, into `k` global ones.

    Local centroids with count 0 have no say; they are members of the nearest global cluster.
    Clusters keep their identity: they are matched one to one with `previous` by cosine (Hungarian);
    without `previous`, or with one of another width, they are ordered by count. A cluster without
    members (also where there are fewer distinct local centroids than `k`) keeps its previous
    centre with count 0, or without `previous` repeats one of the others with count 0.
    `UserError` where there is neither a local centroid nor a previous one.
    """
    sites = sorted(local, key=lambda item: item[0])
    if len({site for site, _ in sites}) < len(sites):
        raise ValueError("two sets of centroids from one site")
    points = unit(np.concatenate([centroids.points for _, centroids in sites]))
    counts = np.concatenate([centroids.counts for _, centroids in sites])
    if previous is not None and previous.points.shape[1] != points.shape[1]:
        previous = None
    if previous is not None and len(previous.points) != k:
        raise ValueError(f"{len(previous.points)} previous centroids for {k} clusters")
    used = counts > 0
    if not used.any():
        centroids = _emptied(previous)
        return Merged(centroids, _by_site(sites, _nearest(points, centroids.points)))
    found = kmeans(
        torch.from_numpy(points[used]),
        k,
        weights=torch.from_numpy(counts[used]),
        restarts=restarts,
        generator=generator("cpu", seed, "merge"),
        spherical=True,
    )
    centres = unit(found.centroids.numpy())
    assigned = found.labels.numpy().astype(np.int64)
    sizes = np.zeros(len(centres), np.int64)
    np.add.at(sizes, assigned, counts[used])
    identity = _identities(centres, sizes, previous)
    merged = _place(centres, sizes, identity, previous, k)
    members = np.empty(len(points), np.int64)
    members[used] = identity[assigned]
    members[~used] = identity[_nearest(points[~used], centres)]
    return Merged(merged, _by_site(sites, members))


def _emptied(previous: Centroids | None) -> Centroids:
    if previous is None:
        raise UserError("no site sent a centroid: do all have fewer images than min-count?")
    return Centroids(previous.points, np.zeros_like(previous.counts))


def _nearest(points: NDArray[np.float32], centres: NDArray[np.float32]) -> Members:
    nearest: Members = (points @ centres.T).argmax(axis=1).astype(np.int64)
    return nearest


def _identities(
    centres: NDArray[np.float32], sizes: Members, previous: Centroids | None
) -> Members:
    """The global cluster of each new centre (k',)."""
    identity = np.empty(len(centres), np.int64)
    if previous is None:
        identity[np.argsort(-sizes, kind="stable")] = np.arange(len(centres))
    else:
        rows, columns = linear_sum_assignment(centres @ previous.points.T, maximize=True)
        identity[rows] = columns
    return identity


def _place(
    centres: NDArray[np.float32],
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


MERGES: dict[str, Callable[[Sequence[tuple[str, Centroids]], Centroids | None, int, int], Merged]]
MERGES = {"k-means": merge_centroids, "lloyd": merge_centroids}
"""name -> how the sites' centroids become the global ones; `lloyd` goes on from there in more
exchanges (`server/lloyd.py`)."""
