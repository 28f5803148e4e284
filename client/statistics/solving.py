"""The sums of a site from which the server solves a closed form (`common/solvers/base.py`).

Of all functions: `rows` are those of `images` (N, C, H, W) uint8 that are summed over. Products of
a chunk are in float32, also where the encoder has mixed precision; sums over chunks in float64.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from client.embedding import outputs, view_outputs
from common.augmentations import Augmentation
from common.models.model import Model
from common.solvers.base import Affinity, Moments, OfOutputs, Patches

PATCHED = 2**24  # numbers in the patches that are laid out at once (64 MB)


@torch.no_grad()
def plain_points(
    model: Model,
    augmentation: Augmentation,
    images: Tensor,
    rows: Tensor,
    statistic: OfOutputs,
    device: torch.device,
) -> Tensor:
    """A statistic's x (n, d) of the n `rows` without augmentation."""
    chunks = outputs(model, augmentation, images, rows, device)
    return torch.cat([statistic.points(h) for h in chunks])


@torch.no_grad()
def patch_moments(
    model: Model,
    augmentation: Augmentation,
    images: Tensor,
    rows: Tensor,
    statistic: Patches,
    device: torch.device,
) -> NDArray[np.float64]:
    """`gram` (d + 1, d + 1), Σ x xᵀ with x = [P, 1/√L] of each image's patches P (L, d), scaled to
    ‖P‖_F = 1, that a layer of the encoder sees in the `rows` without augmentation."""
    layer, width = statistic.layer, statistic.width + 1
    gram = torch.zeros(width, width, dtype=torch.float64, device=device)

    def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        windows = inputs[0][0, 0].numel() // math.prod(layer.stride)
        for few in inputs[0].split(max(1, PATCHED // (width * windows))):
            gram.add_(_patch_gram(few.float(), layer))

    hook = layer.register_forward_pre_hook(add)
    try:
        for _ in outputs(model, augmentation, images, rows, device):
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


@torch.no_grad()
def _view_points(
    model: Model,
    augmentation: Augmentation,
    images: Tensor,
    rows: Tensor,
    statistic: OfOutputs,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """A statistic's x (n, d) of two views of the `rows`, chunk by chunk."""
    for h in view_outputs(model, augmentation, images, rows, generator):
        x_a, x_b = statistic.points(h).chunk(2)
        yield x_a, x_b


def view_moments(
    model: Model,
    augmentation: Augmentation,
    images: Tensor,
    rows: Tensor,
    statistic: Moments,
    generator: torch.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`gram` (d + 1, d + 1) of encoder outputs scaled to unit length, over two views of each image
    of `rows`, halved, and `within` (d, d) of the differences between the two views."""
    width = statistic.width
    gram = torch.zeros(width + 1, width + 1, dtype=torch.float64, device=generator.device)
    within = torch.zeros(width, width, dtype=torch.float64, device=generator.device)
    for h_a, h_b in _view_points(model, augmentation, images, rows, statistic, generator):
        difference, ones = h_a - h_b, F.pad(torch.cat([h_a, h_b]), (0, 1), value=1.0)
        with torch.autocast(generator.device.type, enabled=False):
            gram += (ones.T @ ones).double() / 2
            within += (difference.T @ difference).double()
    return gram.cpu().numpy(), within.cpu().numpy()


def view_affinity(
    model: Model,
    augmentation: Augmentation,
    images: Tensor,
    rows: Tensor,
    statistic: Affinity,
    min_count: int,
    generator: torch.Generator,
) -> NDArray[np.float64]:
    """Σ ½(a_a a_bᵀ + a_b a_aᵀ) (M, M) of the weights of two views of each image of `rows`. A
    landmark that fewer than `min_count` of the images have weight on is left out: no entry tells of
    a handful of them."""
    pairs = _view_points(model, augmentation, images, rows, statistic, generator)
    return affinity_of(pairs, statistic.width, min_count, generator.device)


@torch.no_grad()
def affinity_of(
    pairs: Iterable[tuple[Tensor, Tensor]], width: int, min_count: int, device: torch.device
) -> NDArray[np.float64]:
    """The same from the weights of `pairs` of views (n, M)."""
    total = torch.zeros(width, width, dtype=torch.float64, device=device)
    near = torch.zeros(width, dtype=torch.long, device=device)
    for a, b in pairs:
        near += ((a > 0) | (b > 0)).sum(dim=0)
        with torch.autocast(device.type, enabled=False):
            total += (a.T @ b).double()
    kept = near >= min_count
    total *= kept[:, None] & kept
    return ((total + total.T) / 2).cpu().numpy()


def agreements(
    pairs: Iterable[tuple[Tensor, Tensor]], scores: Tensor, clusters: int
) -> NDArray[np.int64]:
    """Counts (R·K, K) of images by the clusters of `pairs` of views (n, d), for each of R ways; a
    view's cluster is the row with the largest product, of the K `scores` (R·K, d) of a way."""
    ways = len(scores) // clusters
    total = np.zeros((ways, clusters, clusters), np.int64)
    for both in pairs:
        with torch.autocast(scores.device.type, enabled=False):
            found = [(x @ scores.T).unflatten(1, (ways, clusters)).argmax(dim=2) for x in both]
        one, other = (each.cpu().numpy() for each in found)
        np.add.at(total, (np.arange(ways), one, other), 1)
    return total.reshape(ways * clusters, clusters)
