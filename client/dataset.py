"""A site's images, labels, names, split and batches: what training and measuring read.

`SiteImages` is what a site holds, placed once; `Dataset` is that as one run uses it. None of it
leaves the site.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from common.augmentations import Augmentation
from common.augmentations.seeded import mixed
from common.config.options import Plan
from common.data import ImageData
from common.data.images import Pixels
from common.objectives.base import Batch
from common.utils import seeds
from common.utils.errors import UserError

LEAST = 2  # images that a site can take part with


@dataclass(frozen=True)
class Dataset:
    """The images of `site` in one run.

    `images` (N, C, H, W) uint8, on `device` where they fit; `labels` (N,) in the numbering of the
    federation's classes, None where there are none; `names` of the N images; `train` (n,) and
    `held` (m,): which of them are trained on, and which are kept for kNN and probe. `digests` (N,)
    int64 on the CPU: what `drawn` knows the images by, None where the plan does not draw by image.
    """

    site: str
    images: Tensor
    labels: Tensor | None
    names: Sequence[str]
    train: Tensor
    held: Tensor
    device: torch.device
    digests: Tensor | None = None


class SiteImages:
    """What a site holds; `UserError` where that is too little to train on."""

    def __init__(self, site: str, data: ImageData, device: torch.device) -> None:
        if len(data.images) < LEAST:
            raise UserError(f"site {site}: {len(data.images)} images are too few to train on")
        self.site = site
        self.data = data
        self.device = device
        self._images = place(torch.from_numpy(data.images), device)
        self._labels = None if data.labels is None else torch.from_numpy(data.labels).to(device)

    def dataset(self, plan: Plan, classes: Sequence[str]) -> Dataset:
        """The images as a run of `plan` uses them, in a federation of these `classes`; `UserError`
        where the site has another class."""
        train, held = self._split(plan)
        labels = self._labels_among(classes)
        return Dataset(
            self.site,
            self._images,
            labels,
            self.data.names,
            train,
            held,
            self.device,
            self.digests if plan.by_image else None,
        )

    def _split(self, plan: Plan) -> tuple[Tensor, Tensor]:
        """Indices of the training and of the evaluation images: fixed over a run. By image, each is
        among the one or the other by itself, but that at least two are trained on."""
        n = len(self._images)
        if plan.by_image:
            numbers = drawn(self.digests, plan.seed, "split")
            held = int((numbers < int(plan.evaluation_share * 2**63)).sum())
            order = numbers.argsort(stable=True).to(self.device)
        else:
            generator = seeds.generator("cpu", plan.seed, self.site, "split")
            held = max(1, round(n * plan.evaluation_share))
            order = torch.randperm(n, generator=generator).to(self.device)
        held = min(held, n - 2)
        return order[held:], order[:held]

    @cached_property
    def digests(self) -> Tensor:
        """The first 63 bits of each image's SHA-256: (N,) int64, on the CPU."""
        return digests_of(self.data.images)

    def _labels_among(self, classes: Sequence[str]) -> Tensor | None:
        if self._labels is None or not classes:
            return None
        own = self.data.classes
        if not set(own) <= set(classes):
            raise UserError(f"site {self.site}: its classes are not among the server's")
        renumber = torch.tensor([classes.index(name) for name in own])
        return renumber.to(self.device)[self._labels]


def digests_of(images: Pixels) -> Tensor:
    """The first 63 bits of the SHA-256 of each of the `images` (N, C, H, W): (N,) int64."""
    found = [hashlib.sha256(image.tobytes()).digest()[:8] for image in images]
    return torch.tensor([int.from_bytes(each, "big") >> 1 for each in found], dtype=torch.int64)


def drawn(digests: Tensor, *about: str | int) -> Tensor:
    """A number in [0, 2^63) for each of the images with these `digests` (N,), drawn for what it is
    `about`: the same wherever the image is."""
    return mixed(digests ^ seeds.derive_seed(*about)) & (2**63 - 1)


def view_batches(
    data: Dataset, augmentation: Augmentation, size: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Two views of each training image, in shuffled batches of at most `size`, on the device."""
    shuffled = list(shuffled_batches(len(data.train), size, generator))
    where = data.train[torch.cat(shuffled)].to(data.images.device)  # one copy a pass, none a batch
    for rows, index in zip(shuffled, where.tensor_split(len(shuffled)), strict=True):
        images = take(data.images, index, data.device)
        yield Batch(*augmentation.pair(images, generator), rows, generator)


def ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches. On a GPU the next one's views are made on a stream of their own while this
    one is trained on: neither fills the GPU alone. The host waits for nothing."""
    if device.type != "cuda":
        yield from batches
        return
    training, making = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    making.wait_stream(training)  # for the images, and whatever was drawn before

    def make() -> Batch | None:
        with torch.cuda.stream(making):
            return next(batches, None)

    following = make()
    while following is not None:
        batch = following
        training.wait_stream(making)
        for tensor in (batch.a, batch.b, batch.rows):
            tensor.record_stream(training)  # its memory is not given away before it was used there
        following = make()
        yield batch


def shuffled_batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """A permutation of 0..n-1 in nearly equal batches of at most `size`: no image is dropped, and
    no batch is left with a single image (which BatchNorm cannot normalise)."""
    order = torch.randperm(n, generator=generator, device=generator.device)
    yield from order.tensor_split(batches(n, size))


def batches(n: int, size: int) -> int:
    """Steps of one pass over n images."""
    return max(1, min(-(-n // size), n // 2))


def place(images: Tensor, device: torch.device) -> Tensor:
    """The images (N, C, H, W) uint8 on the device if they fit into half of what is free there, so
    that no batch is copied in the loop; else where they are."""
    if device.type != "cuda":
        return images
    free, _total = torch.cuda.mem_get_info(device)
    return images.to(device) if images.nbytes < free / 2 else images


def take(images: Tensor, index: Tensor, device: torch.device) -> Tensor:
    """`images[index]` (B, C, H, W) on `device`; `index` (B,) lies where the images do. From a host
    to a GPU they go through pinned memory, so that nobody waits for the copy."""
    if images.device.type == device.type:
        return images[index]
    batch = torch.empty((len(index), *images.shape[1:]), dtype=images.dtype, pin_memory=True)
    torch.index_select(images, 0, index, out=batch)
    return batch.to(device, non_blocking=True)
