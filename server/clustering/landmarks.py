"""The sites' landmarks as everybody's, and what they say of how the sites differ."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from common.clustering.centroids import Centroids, unit
from common.clustering.kmeans import kmeans
from common.utils.errors import UserError
from common.utils.seeds import generator

NEIGHBOURS = 3  # of a landmark
LOOKED_AT = 4000  # landmarks, at most


def shared_landmarks(
    local: Sequence[tuple[str, Centroids]], most: int, seed: int
) -> NDArray[np.float64]:
    """The sites' landmarks (m, d) as everybody's: all of them, or where there are more than `most`,
    so many centroids of them, each counted as its images. `UserError` where there are none."""
    sites = sorted(local, key=lambda item: item[0])
    counts = np.concatenate([np.zeros(0, np.int64), *(c.counts for _, c in sites)])
    if not counts.any():
        raise UserError("no site has enough images for one landmark")
    points = np.concatenate([centroids.points for _, centroids in sites])[counts > 0]
    if len(points) > most:
        found = kmeans(
            torch.from_numpy(points),
            most,
            weights=torch.from_numpy(counts[counts > 0]),
            restarts=1,
            generator=generator("cpu", seed),
            spherical=True,
        )
        points = found.centroids.numpy()
    return unit(points).astype(np.float64)


def near_their_own(local: Sequence[tuple[str, Centroids]]) -> dict[str, NDArray[np.float64]]:
    """`own`: of the `NEIGHBOURS` nearest to each landmark, the share that is the same site's;
    `chance`: that of its site's among all others, which it would be if the sites were alike."""
    sites = sorted(local, key=lambda item: item[0])
    points = np.concatenate([c.points for _, c in sites]).astype(np.float64)
    owner = np.repeat(np.arange(len(sites)), [len(c.points) for _, c in sites])
    if len(points) > LOOKED_AT:
        some = np.linspace(0, len(points) - 1, LOOKED_AT).astype(np.int64)
        points, owner = points[some], owner[some]
    count = min(NEIGHBOURS, len(points) - 1)
    if count < 1:
        return {"own": np.zeros(1), "chance": np.ones(1)}
    near = points @ points.T
    np.fill_diagonal(near, -np.inf)
    nearest = np.argpartition(-near, count - 1, axis=1)[:, :count]
    sizes = np.bincount(owner, minlength=len(sites))
    chance = (sizes * (sizes - 1)).sum() / (len(points) * (len(points) - 1))
    own = (owner[nearest] == owner[:, None]).mean()
    return {"own": np.array([own]), "chance": np.array([chance])}
