"""What a fixed encoder makes of a site's images, kept while the site runs.

Matrices of whole numbers, two bytes each, by name and by a key that says what made them. What is
large lies in a file in the site's folder that has no name: it ends with the process, and nothing of
an image that was taken away stays on the disk.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.data import ImageData

Rows = NDArray[np.int16]

IN_MEMORY = 2**24  # bytes of one matrix, up to which it stays there
DIGEST = 32  # bytes
TAKEN = 4096  # rows that are copied at once


class FeatureStore:
    """The rows of one site's `data`, one matrix for each name; what is large goes to `folder`."""

    def __init__(self, folder: Path, data: ImageData, in_memory: int = IN_MEMORY) -> None:
        self._folder = folder
        self.data = data
        self._in_memory = in_memory
        self._kept: dict[str, tuple[str, Rows]] = {}

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

    def followed_by(self, data: ImageData) -> "FeatureStore":
        """A store of `data`, with the rows that are there already where all its images are; all
        else is let go."""
        store = FeatureStore(self._folder, data, self._in_memory)
        if not self._kept:
            return store
        places = {digest.tobytes(): row for row, digest in enumerate(self.digests)}
        found = [places.get(digest.tobytes(), -1) for digest in store.digests]
        if -1 in found:
            return store
        for name, (key, rows) in self._kept.items():
            parts = (rows[some] for some in np.array_split(found, -(-len(found) // TAKEN)))
            store._kept[name] = (key, store._placed(parts, rows.shape[1]))
        return store

    def _placed(self, parts: Iterator[Rows], width: int) -> Rows:
        count = len(self.data.images)
        if count * width * 2 <= self._in_memory:
            return np.concatenate(list(parts))
        self._folder.mkdir(parents=True, exist_ok=True)
        # Written, not mapped to be written: on a full disk that is an error, and no signal.
        with tempfile.TemporaryFile(dir=self._folder) as file:
            for rows in parts:
                file.write(rows.tobytes())
            file.flush()
            return np.memmap(file, np.int16, "r", shape=(count, width))
