"""A site's images as a frozen model sees them: as they are, and in two augmented views."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from client.dataset import take
from common.augmentations import Augmentation
from common.config.options import Plan
from common.models.model import Model

CHUNK = 1024  # images in one forward, at most; rows in one block of similarities
CHUNK_BYTES = 2**27  # of float32 pixels in one forward: 1024 images of side 104 in colour


@dataclass(frozen=True)
class Embedded:
    """N images: `points` (N, d) of unit length, on the device; `head` (N,) the cluster head's
    choice, where there is one."""

    points: Tensor
    head: Tensor | None


@dataclass(frozen=True)
class Seen:
    """All of a site's images, `plain` and in two `views` of each."""

    plain: Embedded
    views: tuple[Embedded, Embedded]


Kept = TypeVar("Kept")
About = tuple[Plan, int, str]
"""What embeddings are by: the plan, the stage, which decides the space, the digest of the state."""


class Memory(Generic[Kept]):
    """A site's images by the last state that it was asked about, until it trains on."""

    def __init__(self) -> None:
        self._kept: tuple[About, Kept] | None = None

    def recall(self, about: About) -> Kept | None:
        """The images by that state; None where the last one was another."""
        return self._kept[1] if self._kept is not None and self._kept[0] == about else None

    def keep(self, about: About, seen: Kept) -> None:
        """Remember these, and no others."""
        self._kept = (about, seen)

    def forget(self) -> None:
        """Remember nothing."""
        self._kept = None


@torch.no_grad()
def embed(
    model: Model, augmentation: Augmentation, images: Tensor, embedding: str, device: torch.device
) -> Embedded:
    """Forward all images (N, C, H, W) uint8 in evaluation mode, without augmentation."""
    found = outputs(model, augmentation, images, torch.arange(len(images)), device)
    return embed_outputs(model, found, embedding)


@torch.no_grad()
def embed_views(
    model: Model,
    augmentation: Augmentation,
    images: Tensor,
    embedding: str,
    generator: torch.Generator,
) -> tuple[Embedded, Embedded]:
    """The same of two views of each image."""
    found = view_outputs(model, augmentation, images, torch.arange(len(images)), generator)
    pairs = ((both.chunk(2)[0], both.chunk(2)[1]) for both in found)
    return embed_pairs(model, pairs, embedding)


@torch.no_grad()
def embed_outputs(model: Model, found: Iterable[Tensor], embedding: str) -> Embedded:
    """The images with the encoder outputs (n, d) that are `found`, chunk by chunk."""
    return _joined([_embedded(model, h, embedding) for h in found])


@torch.no_grad()
def embed_pairs(
    model: Model, found: Iterable[tuple[Tensor, Tensor]], embedding: str
) -> tuple[Embedded, Embedded]:
    """The same of two views of each."""
    pairs = [[_embedded(model, h, embedding) for h in both] for both in found]
    a, b = (_joined(parts) for parts in zip(*pairs, strict=True))
    return a, b


def outputs(
    model: Model, augmentation: Augmentation, images: Tensor, rows: Tensor, device: torch.device
) -> Iterator[Tensor]:
    """Encoder outputs of the `rows` of images in evaluation mode, chunk by chunk."""
    model.eval()
    for chunk in rows.to(images.device).split(in_one_forward(images)):
        plain = augmentation.plain(take(images, chunk, device))
        yield model.encoder(plain.contiguous(memory_format=torch.channels_last))


def view_outputs(
    model: Model,
    augmentation: Augmentation,
    images: Tensor,
    rows: Tensor,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """The same of two views of each, the second ones after all the first ones of a chunk."""
    model.eval()
    for chunk in rows.to(images.device).split(in_one_forward(images)):
        batch = take(images, chunk, generator.device)
        yield model.encoder(torch.cat(augmentation.pair(batch, generator)))


def in_one_forward(images: Tensor) -> int:
    """How many of `images` (N, C, H, W) are forwarded together."""
    return max(1, min(CHUNK, CHUNK_BYTES // (4 * images[0].numel())))


def _embedded(model: Model, h: Tensor, embedding: str) -> Embedded:
    assignments = model.assignments(h)
    out = model.projector(h) if embedding == "projector" else h
    head = None if assignments is None else assignments.argmax(dim=1)
    return Embedded(model.points(out), head)


def _joined(parts: Sequence[Embedded]) -> Embedded:
    heads = [part.head for part in parts if part.head is not None]
    return Embedded(torch.cat([part.points for part in parts]), torch.cat(heads) if heads else None)
