"""`ImageData`: what every data set becomes, and how some of its images are drawn."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.config.preparation import Preparation
from common.record.account import Account
from common.utils.errors import UserError
from common.utils.names import label

Kind = Literal["digits", "garments", "natural"]
"""How the images may be augmented: a name of `common/augmentations/presets.py`."""

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Indices = NDArray[np.int64]

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue: ITU-R BT.601
LONGEST_CLASS = 200  # characters of a name that the server takes


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images in memory.

    `images` (N, C, S, S) with 1 or 3 channels; `labels` (N,) index `classes`, or None (then
    `classes` is empty); `names` (N,): file names relative to the folder, or the index in the file;
    `account`: what became of the files of a folder, None of anything else; `prepared`: how its
    files became images, with the window that they were given; `withdrawn`: how many images are left
    out, since the site has taken them back.
    """

    images: Pixels
    labels: Labels | None
    classes: tuple[str, ...]
    names: tuple[str, ...]
    kind: Kind
    account: Account | None = None
    prepared: Preparation = field(default_factory=Preparation)
    withdrawn: int = 0

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[2] != shape[3]:
            raise ValueError(f"images {shape} {self.images.dtype}: expected (N, C, S, S) uint8")
        if len(self.names) != len(self.images):
            raise ValueError(f"{len(self.names)} names for {len(self.images)} images")
        if self.labels is None:
            return
        if self.labels.shape != shape[:1] or self.labels.dtype != np.int64:
            raise ValueError(f"labels {self.labels.shape} {self.labels.dtype} for images {shape}")
        if self.labels.size and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(f"labels outside the {len(self.classes)} classes")

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Names of a folder's files that could not be used."""
        return () if self.account is None else self.account.unreadable

    @property
    def window(self) -> str:
        """The one window that all pictures of more than 8 bits were given; "" where there are none,
        or each has its own."""
        return "" if self.prepared.given_window is None else self.prepared.window

    @property
    def channels(self) -> int:
        """1 or 3."""
        return int(self.images.shape[1])

    @property
    def side(self) -> int:
        """Height and width in pixels."""
        return int(self.images.shape[2])

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over the images' shape and bytes."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()[:16]

    def different(self, most: int) -> int:
        """How many of the images differ, counted up to `most`."""
        found: set[bytes] = set()
        for image in self.images:
            found.add(hashlib.sha256(image.tobytes()).digest())
            if len(found) >= most:
                break
        return len(found)

    def subset(self, indices: Indices) -> "ImageData":
        """The images at `indices` (M,), in that order; `UserError` where there is no such image."""
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self.images):
            raise UserError(
                f"there is no image {indices.max()} among {len(self.images)}: "
                "were the indices made for other data?"
            )
        return replace(
            self,
            images=self.images[indices],
            labels=None if self.labels is None else self.labels[indices],
            names=tuple(self.names[i] for i in indices),
        )

    def shaped(self, channels: int, side: int) -> "ImageData":
        """All images of `channels` (1: grey by ITU-R 601, 3: the same grey in each) and `side`; 0
        leaves either."""
        found = self
        if channels == 3 and self.channels == 1:
            found = replace(found, images=np.repeat(found.images, 3, axis=1))
        elif channels == 1 and self.channels == 3:
            grey = np.tensordot(found.images.astype(np.float32), LUMINANCE, ([1], [0]))
            found = replace(found, images=np.rint(grey).astype(np.uint8)[:, None])
        return found.resized(side) if side else found

    def resized(self, side: int) -> "ImageData":
        """All images at `side` pixels (bilinear, antialiased)."""
        if side == self.side:
            return self
        from PIL import Image  # noqa: PLC0415 (slow to import, and rarely needed)

        resized = np.empty((*self.images.shape[:2], side, side), np.uint8)
        for image, row in zip(self.images, resized, strict=True):
            for plane, out in zip(image, row, strict=True):
                out[:] = Image.fromarray(plane).resize((side, side), Image.Resampling.BILINEAR)
        return replace(self, images=resized)


def class_name(name: str) -> str:
    """A class as sites and server call it, whatever its folder or file does: one printable line."""
    return label(name, LONGEST_CLASS)


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose. (`common.utils.seeds` makes torch's, and would import it.)"""
    return np.random.default_rng([seed, *purpose.encode()])


def draw(among: int, images: int, seed: int, name: str) -> Indices:
    """`images` (M,) of `among` indices without replacement, ascending, by `seed`; `name` is what
    the error calls the data."""
    return np.sort(draw_order(among, images, seed, name)[:images])


def draw_order(among: int, images: int, seed: int, name: str) -> Indices:
    """All `among` indices in the order in which `draw` takes them."""
    if images > among:
        raise UserError(f"asked for {images} images, but {name} has {among}")
    return generator(seed, "images").permutation(among)
