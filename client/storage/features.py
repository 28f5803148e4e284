"""What a fixed encoder makes of a site's images, kept while the site runs.

Matrices of whole numbers, two bytes each, by name and by a key that says what made them. What is
large lies in a file in the site's folder that has no name: it ends with the process, and nothing of
an image that was taken away stays on the disk.

Sums over rows of whole numbers are exact in any order (`client/statistics/exact.py`). A store that
keeps them answers for what is left with the old sum less that of what has gone.
"""

import hashlib
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from common.data import ImageData

Rows = NDArray[np.int16]
Kept = TypeVar("Kept", np.int16, np.float64)
Sums = tuple[NDArray[np.float64], ...]
Add = Callable[[Sequence[Rows]], Sums]
"""The sums over rows of several names that belong together."""

IN_MEMORY = 2**24  # bytes of one matrix, up to which it stays there
DIGEST = 32  # bytes
TAKEN = 4096  # rows that are copied at once


@dataclass(frozen=True)
class _Summed:
    """`sums` over the rows of `names` that were made as `key` says, and over those that have `gone`
    since."""

    key: str
    names: tuple[str, ...]
    sums: Sums
    gone: tuple[tuple[Rows, ...], ...] = ()


class FeatureStore:
    """The rows of one site's `data`, one matrix for each name; what is large goes to `folder`.
    `keep_sums`: whether sums are kept, too: of a site that may take images back."""

    def __init__(
        self,
        folder: Path,
        data: ImageData,
        in_memory: int = IN_MEMORY,
        keep_sums: bool = False,
    ) -> None:
        self._folder = folder
        self.data = data
        self._in_memory = in_memory
        self.keeps_sums = keep_sums
        self._kept: dict[str, tuple[str, Rows]] = {}
        self._summed: _Summed | None = None

    @cached_property
    def digests(self) -> NDArray[np.uint8]:
        """SHA-256 of each image's shape and pixels: (N, 32)."""
        shape = repr(self.data.images.shape[1:]).encode()
        found = b"".join(
            hashlib.sha256(shape + image.tobytes()).digest() for image in self.data.images
        )
        return np.frombuffer(found, np.uint8).reshape(-1, DIGEST)

    def rows(self, name: str, key: str, width: int, made: Callable[[], Iterator[Rows]]) -> Rows:
        """The rows (N, `width`) of all images called `name` and made as `key` says; if they are not
        there, those that are `made`, part by part, which take the place of those of that name.
        `OSError` where a file cannot be written."""
        kept = self._kept.get(name)
        if kept is None or kept[0] != key:
            self._kept.pop(name, None)
            kept = self._kept[name] = (key, self._placed(made(), width))
        return kept[1]

    def summed(
        self, names: tuple[str, ...], key: str, whole: Callable[[], Sequence[Rows]], add: Add
    ) -> Sums:
        """What `add` makes of the `whole` rows of `names`, made as `key` says."""
        if not self.keeps_sums:
            return add(whole())
        kept = self._summed
        if kept is None or (kept.names, kept.key) != (names, key):
            sums = add(whole())
        else:
            sums = tuple(map(np.array, kept.sums))
            for gone in kept.gone:
                sums = tuple(a - b for a, b in zip(sums, add(gone), strict=True))
        held = (self._held(iter([each]), each.shape, np.float64) for each in sums)
        self._summed = _Summed(key, names, tuple(held))
        return sums

    def followed_by(self, data: ImageData) -> "FeatureStore":
        """A store of `data`, with the rows that are there already where all its images are; all
        else is let go."""
        store = FeatureStore(self._folder, data, self._in_memory, self.keeps_sums)
        if not self._kept:
            return store
        places = {digest.tobytes(): row for row, digest in enumerate(self.digests)}
        found = [places.get(digest.tobytes(), -1) for digest in store.digests]
        if -1 in found:
            return store
        for name, (key, rows) in self._kept.items():
            parts = (rows[some] for some in np.array_split(found, -(-len(found) // TAKEN)))
            store._kept[name] = (key, store._placed(parts, rows.shape[1]))
        store._summed = self._summed_without(store)
        return store

    def _summed_without(self, store: "FeatureStore") -> _Summed | None:
        """The sums, with the rows that `store` has not any more (of an image that was there twice
        and is there once: one); None where adding up what is left is less work."""
        kept = self._summed
        left = Counter(digest.tobytes() for digest in store.digests)
        missing = []
        for row, digest in enumerate(self.digests):
            left[digest.tobytes()] -= 1
            if left[digest.tobytes()] < 0:
                missing.append(row)
        if kept is None or len(missing) > len(store.digests):
            return None
        found = [self._kept.get(name, ("", None)) for name in kept.names]
        gone = tuple(rows[missing] for key, rows in found if rows is not None and key == kept.key)
        if len(gone) < len(kept.names):
            return None
        return replace(kept, gone=(*kept.gone, gone))

    def _placed(self, parts: Iterator[Rows], width: int) -> Rows:
        return self._held(parts, (len(self.data.images), width), np.int16)

    def _held(
        self, parts: Iterator[NDArray[Kept]], shape: tuple[int, ...], kind: type[Kept]
    ) -> NDArray[Kept]:
        """The `parts` as one array, in memory or in a file without a name."""
        if math.prod(shape) * np.dtype(kind).itemsize <= self._in_memory:
            return np.concatenate(list(parts))
        self._folder.mkdir(parents=True, exist_ok=True)
        # Written, not mapped to be written: on a full disk that is an error, and no signal.
        with tempfile.TemporaryFile(dir=self._folder) as file:
            for each in parts:
                file.write(each.tobytes())
            file.flush()
            return np.memmap(file, kind, "r", shape=shape)
