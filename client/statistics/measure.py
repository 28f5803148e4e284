"""What a site measures on its own images: local clusters, tables, kNN, moments.

Everything that leaves this file towards the server is a sum, a count or a centroid. Labels, where a
site has them, are used for evaluation only and never leave it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from client.embedding import CHUNK
from client.statistics.clusters import local_clusters
from client.statistics.kfed import k_fed_clusters
from common.models.whole import cosines
from common.protocol.messages import Counts, Floats

NEIGHBOURS = 20  # of the kNN vote, or fewer where a site has few images
KNN_TEMPERATURE = 0.07  # weights exp(cos/τ): Wu et al., CVPR 2018 (arXiv 1805.01978), section 3.4


CLUSTERINGS = {
    "k-means": local_clusters,
    "k-fed": k_fed_clusters,
    "lloyd": local_clusters,
    "robust-k-means": local_clusters,
    "robust-lloyd": local_clusters,
}
"""How a site finds its own clusters, by the stage's `centroids`."""


def count_table(clusters: Tensor, labels: Tensor | None, k: int, classes: int) -> Counts:
    """Contingency counts (k, classes); without labels one column: the clusters' sizes."""
    columns = max(classes, 1) if labels is not None else 1
    flat = clusters * columns + (labels if labels is not None else 0)
    counts = torch.bincount(flat, minlength=k * columns).reshape(k, columns)
    return counts.cpu().numpy().astype(np.int64)


def spread(points: Tensor) -> dict[str, NDArray[np.float64]]:
    """Σ h and Σ h² (d,): the server gets the exact per-dimension std over all sites from them."""
    wide = points.double()
    return {"sum": wide.sum(0).cpu().numpy(), "squares": wide.square().sum(0).cpu().numpy()}


def silhouette(points: Tensor, centres: Tensor) -> float:
    """Sum over images of the simplified silhouette (b - a)/max(a, b), with a and b the cosine
    distances to the nearest and second nearest centroid (Hruschka et al., 2004)."""
    if len(centres) < 2:
        return 0.0
    total = torch.zeros((), dtype=torch.float64, device=points.device)
    for chunk in points.split(CHUNK):
        near = 1 - (chunk @ centres.T).topk(2, dim=1).values
        a, b = near.clamp_min(0).unbind(dim=1)
        total += ((b - a) / b.clamp_min(1e-12)).double().sum()
    return float(total)


def moments(
    points: Tensor, labels: Tensor | None, classes: int, min_count: int
) -> dict[str, NDArray[np.float64]]:
    """The probe's sums `gram` and `cross` over training images (see `Reply`)."""
    h = F.pad(points, (0, 1), value=1.0).double()
    gram = (h.T @ h).cpu().numpy()
    if labels is None:
        return {"gram": gram, "cross": np.zeros((len(gram), 0))}
    one_hot = F.one_hot(labels, max(classes, 1)).double()
    one_hot = one_hot * (one_hot.sum(0) >= min_count)
    return {"gram": gram, "cross": (h.T @ one_hot).cpu().numpy()}


@dataclass(frozen=True)
class LloydSums:
    """A site's part of one step of Lloyd's algorithm: `sums` (K, d) and `counts` (K,) of the images
    nearest to each centroid; `inertia` Σ 1 - cos to the nearest, over all images."""

    sums: NDArray[np.float64]
    counts: Counts
    inertia: float


def lloyd_sums(points: Tensor, centres: Tensor, min_count: int) -> LloydSums:
    """Sums of unit-length `points` (N, d) by the nearest of `centres` (K, d). A cluster with fewer
    than `min_count` images at the site is left out (0 and 0). Sums of points of multiples of 2^-14
    are exact."""
    k = len(centres)
    sums = torch.zeros(k, points.shape[1], dtype=torch.float64, device=points.device)
    counts = torch.zeros(k, dtype=torch.float64, device=points.device)
    inertia = torch.zeros((), dtype=torch.float64, device=points.device)
    for chunk in points.split(CHUNK):
        best, label = cosines(chunk, centres).max(dim=1)
        hot = F.one_hot(label, k).double()
        sums += hot.T @ chunk.double()
        counts += hot.sum(0)
        inertia += (1 - best).sum()
    sent = counts >= min_count
    return LloydSums(
        (sums * sent[:, None]).cpu().numpy(),
        (counts * sent).cpu().numpy().astype(np.int64),
        float(inertia),
    )


def knn_correct(train: Tensor, train_labels: Tensor, test: Tensor, labels: Tensor) -> int:
    """How many of `test` (M, d) a weighted kNN vote over `train` (N, d) names rightly."""
    k = min(NEIGHBOURS, len(train))
    classes = int(torch.maximum(train_labels.max(), labels.max())) + 1
    correct = torch.zeros((), dtype=torch.long, device=test.device)
    for rows, truth in _chunks(test, labels):
        cosines, index = (rows @ train.T).topk(k, dim=1)
        votes = torch.zeros(len(rows), classes, device=rows.device)
        votes.scatter_add_(1, train_labels[index], (cosines / KNN_TEMPERATURE).exp())
        correct += (votes.argmax(dim=1) == truth).sum()
    return int(correct)


def probe_correct(points: Tensor, labels: Tensor, probe: Floats) -> int:
    """How many of `points` (M, d) the linear probe (d + 1, C) names rightly."""
    weights = torch.from_numpy(probe).to(points.device)
    scores = points @ weights[:-1] + weights[-1]
    return int((scores.argmax(dim=1) == labels).sum())


def _chunks(points: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(points.split(CHUNK), labels.split(CHUNK), strict=True)
