"""What a site measures on its own images: local clusters, tables, kNN, moments.

Everything that leaves this file towards the server is a sum, a count or a centroid. Labels, where a
site has them, are used for evaluation only and never leave it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from client.embedding import CHUNK, outputs, view_outputs
from client.statistics.clusters import local_clusters
from client.statistics.kfed import k_fed_clusters
from common.augmentations import Views
from common.objectives.base import Objective
from common.protocol.messages import Counts, Floats

PATCHED = 2**24  # numbers in the patches that are laid out at once (64 MB)
NEIGHBOURS = 20  # of the kNN vote, or fewer where a site has few images
KNN_TEMPERATURE = 0.07  # weights exp(cos/τ): Wu et al., CVPR 2018 (arXiv 1805.01978), section 3.4


@torch.no_grad()
def solving_points(
    objective: Objective,
    views: Views,
    images: Tensor,
    rows: Tensor,
    asked: str,
    device: torch.device,
) -> Tensor:
    """What is summed for `Objective.solve`, (n, d), of the n `rows` without augmentation."""
    chunks = outputs(objective, views, images, rows, device)
    return torch.cat([objective.solving_points(asked, h) for h in chunks])


@torch.no_grad()
def patch_moments(
    objective: Objective,
    views: Views,
    images: Tensor,
    rows: Tensor,
    asked: str,
    device: torch.device,
) -> NDArray[np.float64]:
    """`gram` (d + 1, d + 1), Σ x xᵀ with x = [P, 1/√L] of each image's patches P (L, d), scaled to
    ‖P‖_F = 1, that a layer of the encoder sees in the `rows` without augmentation."""
    layer = objective.layer(asked)
    width = objective.solving_width(asked) + 1
    gram = torch.zeros(width, width, dtype=torch.float64, device=device)

    def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        windows = inputs[0][0, 0].numel() // math.prod(layer.stride)
        for few in inputs[0].split(max(1, PATCHED // (width * windows))):
            gram.add_(_patch_gram(few.float(), layer))

    hook = layer.register_forward_pre_hook(add)
    try:
        for _ in outputs(objective, views, images, rows, device):
            pass
    finally:
        hook.remove()
    return gram.cpu().numpy()


def _patch_gram(maps: Tensor, layer: nn.Conv2d) -> Tensor:
    """Σ x xᵀ (d + 1, d + 1) of the layer's input `maps` (n, C, H, W): see `patch_moments`."""
    assert not isinstance(layer.padding, str)
    with torch.autocast(maps.device.type, enabled=False):
        patches = F.unfold(maps, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        patches = patches / patches.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)
        x = F.pad(patches, (0, 0, 0, 1), value=patches.shape[2] ** -0.5)
        x = x.transpose(0, 1).flatten(1)
        return (x @ x.T).double()


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


@torch.no_grad()
def _view_points(
    objective: Objective,
    views: Views,
    images: Tensor,
    rows: Tensor,
    asked: str,
    chance: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """`Objective.solving_points` (n, d) of two views of the `rows`, chunk by chunk."""
    for h in view_outputs(objective, views, images, rows, chance):
        x_a, x_b = objective.solving_points(asked, h).chunk(2)
        yield x_a, x_b


# Below, products of a chunk in float32, also where the encoder has mixed precision; sums over
# chunks in float64.


def view_moments(
    objective: Objective,
    views: Views,
    images: Tensor,
    rows: Tensor,
    chance: torch.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`gram` (d + 1, d + 1) of encoder outputs scaled to unit length, over two views of each image
    of `rows`, halved, and `within` (d, d) of the differences between the two views."""
    width = objective.encoder.feature_dim
    gram = torch.zeros(width + 1, width + 1, dtype=torch.float64, device=chance.device)
    within = torch.zeros(width, width, dtype=torch.float64, device=chance.device)
    for h_a, h_b in _view_points(objective, views, images, rows, "moments", chance):
        difference, ones = h_a - h_b, F.pad(torch.cat([h_a, h_b]), (0, 1), value=1.0)
        with torch.autocast(chance.device.type, enabled=False):
            gram += (ones.T @ ones).double() / 2
            within += (difference.T @ difference).double()
    return gram.cpu().numpy(), within.cpu().numpy()


def view_affinity(
    objective: Objective,
    views: Views,
    images: Tensor,
    rows: Tensor,
    min_count: int,
    chance: torch.Generator,
) -> NDArray[np.float64]:
    """Σ ½(a_a a_bᵀ + a_b a_aᵀ) (M, M) of the weights of two views of each image of `rows`. A
    landmark that fewer than `min_count` of the images have weight on is left out: no entry tells of
    a handful of them."""
    width = objective.solving_width("affinity")
    total = torch.zeros(width, width, dtype=torch.float64, device=chance.device)
    near = torch.zeros(width, dtype=torch.long, device=chance.device)
    for a, b in _view_points(objective, views, images, rows, "affinity", chance):
        near += ((a > 0) | (b > 0)).sum(dim=0)
        with torch.autocast(chance.device.type, enabled=False):
            total += (a.T @ b).double()
    kept = near >= min_count
    total *= kept[:, None] & kept
    return ((total + total.T) / 2).cpu().numpy()


@dataclass(frozen=True)
class LloydSums:
    """A site's part of one step of Lloyd's algorithm: `sums` (K, d) and `counts` (K,) of the images
    nearest to each centroid; `inertia` Σ 1 - cos to the nearest, over all images."""

    sums: NDArray[np.float64]
    counts: Counts
    inertia: float


def lloyd_sums(points: Tensor, centres: Tensor, min_count: int) -> LloydSums:
    """Sums of unit-length `points` (N, d) by the nearest of `centres` (K, d). A cluster with fewer
    than `min_count` images at the site is left out (0 and 0)."""
    k = len(centres)
    sums = torch.zeros(k, points.shape[1], dtype=torch.float64, device=points.device)
    counts = torch.zeros(k, dtype=torch.float64, device=points.device)
    inertia = torch.zeros((), dtype=torch.float64, device=points.device)
    for chunk in points.split(CHUNK):
        best, label = (chunk @ centres.T).max(dim=1)
        hot = F.one_hot(label, k).to(chunk.dtype)
        sums += (hot.T @ chunk).double()
        counts += hot.sum(0).double()
        inertia += (1 - best).double().sum()
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
