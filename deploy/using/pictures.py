"""The pictures of a folder as a model takes them, chunk by chunk: however many there are, one chunk
is in memory while the next one is decoded."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.data import DATASETS, ImageData, load
from common.data.decoding import read_file, with_window
from common.data.folder import list_readable
from common.data.pil import quietly
from common.learned.facts import Preprocessing
from common.utils.errors import UserError
from common.utils.names import place

CHUNK_BYTES = 1 << 26  # of pixels in a chunk
MOST, LEAST = 1024, 16  # images in a chunk
Decoded = NDArray[np.uint8] | None


@dataclass(frozen=True)
class Pictures:
    """Pictures by name. `folder`: where their files are; None where they are `data` in memory.
    `unreadable`: names of files that are known to be so before they are read."""

    names: tuple[str, ...]
    how: Preprocessing
    folder: Path | None = None
    data: ImageData | None = None
    unreadable: tuple[str, ...] = ()

    def chunks(self, without: Collection[str] = ()) -> Iterator[tuple[ImageData, list[str]]]:
        """(images, names of files that cannot be read) of all but those called `without`."""
        size = self.how.channels * self.how.side**2
        count = max(LEAST, min(MOST, CHUNK_BYTES // size))
        wanted = [name for name in self.names if name not in without]
        parts = [wanted[start : start + count] for start in range(0, len(wanted), count)]
        known = self.unreadable  # told with the first chunk
        for data, cut in self._from_files(parts) if self.folder else self._from_memory(parts):
            yield data, sorted([*known, *cut])
            known = ()

    def look(self, names: Sequence[str], side: int) -> Iterator[NDArray[np.uint8]]:
        """Each of these pictures (C, S, S) for people to look at: a file's at `side`, in colour."""
        if self.folder is None:
            assert self.data is not None
            rows = {name: row for row, name in enumerate(self.names)}
            yield from (self.data.images[rows[name]] for name in names)
            return
        how = replace(self.how.preparation, side=side, channels=3)
        missing = np.zeros((3, side, side), np.uint8)  # of a file that has gone meanwhile
        with quietly(), ThreadPoolExecutor() as pool:
            files = [self.folder / name for name in names]
            read = partial(read_file, how=with_window(pool, files, how))
            for found in pool.map(read, files):
                yield missing if found is None else found

    def _from_memory(self, parts: Sequence[Sequence[str]]) -> Iterator[tuple[ImageData, list[str]]]:
        assert self.data is not None
        rows = {name: row for row, name in enumerate(self.names)}
        for part in parts:
            yield self.data.subset(np.array([rows[name] for name in part], np.int64)), []

    def _from_files(self, parts: Sequence[Sequence[str]]) -> Iterator[tuple[ImageData, list[str]]]:
        assert self.folder is not None
        with quietly(), ThreadPoolExecutor() as pool:
            files = [self.folder / name for part in parts for name in part]
            read = partial(read_file, how=with_window(pool, files, self.how.preparation))

            def begin(part: Sequence[str]) -> list[Future[Decoded]]:
                return [pool.submit(read, self.folder / name) for name in part]  # type: ignore[operator]

            coming = begin(parts[0]) if parts else []
            for number, part in enumerate(parts):
                now, coming = coming, begin(parts[number + 1]) if number + 1 < len(parts) else []
                decoded = [future.result() for future in now]
                kept = [name for name, one in zip(part, decoded, strict=True) if one is not None]
                cut = [name for name, one in zip(part, decoded, strict=True) if one is None]
                pixels = np.empty(
                    (len(kept), self.how.channels, self.how.side, self.how.side), np.uint8
                )
                for row, one in enumerate(one for one in decoded if one is not None):
                    pixels[row] = one
                yield ImageData(pixels, None, (), tuple(kept), "natural"), cut


def pictures(spec: str, how: Preprocessing) -> Pictures:
    """The pictures of a folder (and its subfolders), an .npz file or a data set, as `how` says.
    `UserError` where there is none, or an array has another shape."""
    folder = place(spec)
    if spec not in DATASETS and folder.is_dir():
        names, left = list_readable(folder)
        return Pictures(tuple(names), how, folder, unreadable=tuple(left))
    data = load(spec)
    if (data.channels, data.side) != (how.channels, how.side):
        raise UserError(
            f"the encoder takes {how.channels}×{how.side}×{how.side} images, "
            f"those of {spec} are {data.channels}×{data.side}×{data.side}"
        )
    return Pictures(data.names, how, data=data)
