"""Weighted k-means and spherical k-means on a CPU or a GPU.

All restarts run side by side in the same matrix products: with few clusters an iteration costs
reading the points, so four restarts cost little more than one. Nothing of size N × k × d is made,
and within the iterations the host waits for the device only to see whether they have converged.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 65_536  # rows at a time
CELLS = 2**24  # distances at a time: 64 MiB
CHECK = 5  # iterations between two looks at convergence
TOLERANCE = 1e-8  # squared shift of the centroids, relative to the points' mean squared length


@dataclass(frozen=True)
class KMeans:
    """`centroids` (k', d); `labels` (N,) the nearest of them; `counts` (k',) rows in each, none of
    which is 0; `inertia` Σ weight · squared distance to the own centroid (spherical: 2 - 2cos)."""

    centroids: Tensor
    labels: Tensor
    counts: Tensor
    inertia: float


@dataclass(frozen=True)
class _Points:
    """What is clustered: rows (N, d), their squared lengths (N,), their weights (N,)."""

    rows: Tensor
    squares: Tensor
    weights: Tensor
    spherical: bool


def kmeans(
    points: Tensor,
    k: int,
    *,
    weights: Tensor | None = None,
    restarts: int = 4,
    iterations: int = 50,
    generator: torch.Generator,
    init: Tensor | None = None,
    spherical: bool = False,
) -> KMeans:
    """The best of `restarts` runs of Lloyd's algorithm from k-means++ seeds.

    `points` (N, d); `weights` (N,) ≥ 0, not all 0: a weight of 2 counts as two equal points, and
    one of 0 is only given a label. k' = min(k, distinct points of positive weight). `init` (k, d)
    starts one run there instead. `spherical`: points are scaled to unit length, centroids too after
    each step, which maximises Σ weight · cosine. Labels and centroids are on the device of
    `points`; `generator` may be on another. `ValueError` for points that are not finite.
    """
    if points.ndim != 2 or not len(points) or k < 1:
        raise ValueError(f"k-means with k = {k} of points {tuple(points.shape)}")
    if not bool(torch.isfinite(points).all()):
        raise ValueError("k-means: points have NaN or infinite values")
    rows = points.detach().float()
    mass = torch.ones_like(rows[:, 0]) if weights is None else weights.to(rows).contiguous()
    if spherical:
        rows, centre = F.normalize(rows, dim=1), torch.zeros_like(rows[0])
    else:
        # Around the origin |x|² + |c|² - 2x·c keeps the digits that a far-off mean would take.
        centre = (rows * mass[:, None]).sum(0) / mass.sum()
        rows = rows - centre
    data = _Points(rows, rows.square().sum(1), mass, spherical)
    if init is not None:
        seeds = (F.normalize(init.to(rows), dim=1) if spherical else init.to(rows) - centre)[None]
    else:
        seeds = _distinct_seeds(data, k, restarts, generator)
    centroids = _lloyd(data, seeds, iterations)
    distances, _ = _assign(data, centroids)
    best = (distances * mass).double().sum(1).argmin()
    return _finish(data, centroids[best], centre)


def _chunks(data: _Points, columns: int) -> Iterator[slice]:
    step = max(1, min(CHUNK, CELLS // columns))
    for start in range(0, len(data.rows), step):
        yield slice(start, start + step)


def _assign(data: _Points, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances (R, N) to the nearest of `centroids` (R, k, d), and its index (R, N)."""
    runs, k, _ = centroids.shape
    flat = centroids.flatten(0, 1)
    half = flat.square().sum(1) / 2
    distances = data.rows.new_empty(runs, len(data.rows))
    labels = torch.empty_like(distances, dtype=torch.long)
    for part in _chunks(data, runs * k):
        scores = torch.addmm(half, data.rows[part], flat.T, alpha=-1).view(-1, runs, k)
        nearest, index = scores.min(dim=2)
        distances[:, part] = (2 * nearest + data.squares[part, None]).clamp_min(0).T
        labels[:, part] = index.T
    return distances, labels


def _sums(data: _Points, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Weighted sums (R, k, d) of the points by label (R, N), and the weights (R, k).

    As a product with the one-hot labels: unlike scattered additions on a GPU, it gives the same
    bits every time.
    """
    runs, width = len(labels), data.rows.shape[1]
    sums = torch.zeros(runs * k, width, dtype=torch.float64, device=data.rows.device)
    mass = torch.zeros(runs * k, dtype=torch.float64, device=data.rows.device)
    for part in _chunks(data, runs * k):
        hot = data.rows.new_zeros(runs, k, data.rows[part].shape[0])
        hot.scatter_(1, labels[:, None, part], data.weights[part].expand(runs, 1, -1))
        flat = hot.flatten(0, 1)
        sums += (flat @ data.rows[part]).double()
        mass += flat.double().sum(1)
    return sums.view(runs, k, width), mass.view(runs, k)


def _lloyd(data: _Points, centroids: Tensor, iterations: int) -> Tensor:
    """Centroids (R, k, d) after at most `iterations` steps; an empty cluster moves to one of the
    points that are farthest from their centroids."""
    k = centroids.shape[1]
    scale = (data.squares * data.weights).sum() / data.weights.sum()
    for step in range(iterations):
        distances, labels = _assign(data, centroids)
        sums, mass = _sums(data, labels, k)
        means = (sums / mass.clamp_min(1e-30)[..., None]).float()
        if data.spherical:
            norms = means.norm(dim=2, keepdim=True)
            # Opposite points have no mean direction: stay.
            means = torch.where(norms > 1e-6, means / norms.clamp_min(1e-6), centroids)
        empty = mass == 0
        farthest = torch.where(data.weights > 0, distances, -1).topk(min(k, len(data.rows)), dim=1)
        rank = (empty.cumsum(1) - 1).clamp(0, farthest.indices.shape[1] - 1)
        moved = data.rows[farthest.indices.gather(1, rank)]
        updated = torch.where(empty[..., None], moved, means)
        shift = (updated - centroids).square().sum(dim=(1, 2)).max()
        centroids = updated
        if step % CHECK == CHECK - 1 and bool(shift <= TOLERANCE * scale):
            break
    return centroids


def _finish(data: _Points, centroids: Tensor, centre: Tensor) -> KMeans:
    """Labels and counts of `centroids` (k, d), after empty clusters have moved to the point that
    is farthest from its centroid; each move lowers the inertia. What stays empty is dropped (there
    are fewer distinct points than clusters, to the precision of float32)."""
    counted = data.weights > 0
    for _ in range(2 * len(centroids)):
        distances, labels = _assign(data, centroids[None])
        filled = torch.bincount(labels[0][counted], minlength=len(centroids)) > 0
        if bool(filled.all()):
            break
        farthest = torch.where(counted, distances[0], -1).argmax()
        centroids = centroids.clone()
        centroids[filled.long().argmin()] = data.rows[farthest]
    else:
        centroids = centroids[filled]
        distances, labels = _assign(data, centroids[None])
    return KMeans(
        centroids + centre,
        labels[0],
        torch.bincount(labels[0], minlength=len(centroids)),
        float((distances[0] * data.weights).double().sum()),
    )


def _distinct_seeds(data: _Points, k: int, restarts: int, generator: torch.Generator) -> Tensor:
    """k-means++ seeds (R, k', d) with k' different ones in each run."""
    seeds = _seeds(data, k, restarts, generator)
    if all(len(torch.unique(run, dim=0)) == k for run in seeds):
        return seeds
    # Rare, and slow to decide: are there fewer than k different points?
    different: Tensor = torch.unique(data.rows[data.weights > 0], dim=0)
    if len(different) <= k:
        return different[None]
    order = torch.rand(restarts, len(different), generator=generator, device=generator.device)
    return different[order.argsort(dim=1)[:, :k].to(different.device)]


def _seeds(data: _Points, k: int, restarts: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++ (Arthur and Vassilvitskii, SODA 2007): each seed is the best of 2 + ln k
    candidates that are drawn by weight × squared distance to the seeds so far."""
    runs = torch.arange(restarts, device=data.rows.device)
    trials = 2 + int(math.log(k))
    index = _draw(data.weights.expand(restarts, -1), 1, generator)
    distances, _ = _assign(data, data.rows[index])
    chosen = [index[:, 0]]
    for _ in range(k - 1):
        # Rounding may leave a seed at a tiny distance from itself: never draw it again.
        distances[runs, chosen[-1]] = 0
        candidates = _draw(distances * data.weights, trials, generator)
        to_candidate, _ = _assign(data, data.rows[candidates.flatten()][:, None])
        reach = torch.minimum(distances[:, None], to_candidate.view(*candidates.shape, -1))
        best = (reach @ data.weights).argmin(dim=1)
        distances = reach[runs, best]
        chosen.append(candidates[runs, best])
    return data.rows[torch.stack(chosen, dim=1)]


def _draw(mass: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` indices (R, count) drawn in proportion to `mass` (R, N)."""
    bounds = mass.double().cumsum(dim=1)
    uniform = torch.rand(
        len(mass), count, dtype=torch.float64, generator=generator, device=generator.device
    )
    targets = uniform.to(mass.device) * bounds[:, -1:]
    return torch.searchsorted(bounds, targets, right=True).clamp_max(mass.shape[1] - 1)
