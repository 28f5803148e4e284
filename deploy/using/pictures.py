"""Pictures of a folder, or of a data set, as a model takes them, chunk by chunk: no more than one
chunk is in memory while the next one is decoded."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.config.preparation import ALL, FIRST, LARGEST, Preparation
from common.data import DATASETS, ImageData, load
from common.data.decoding import Found, decode_one, find, pictures_in, with_window
from common.data.folder import listed, notes
from common.data.pil import quietly
from common.learned.facts import Preprocessing
from common.record.account import Account, LeftOut
from common.utils.errors import UserError
from common.utils.names import place

CHUNK_BYTES = 1 << 26  # of pixels in a chunk
MOST, LEAST = 1024, 16  # images in a chunk
Decoded = tuple[Found, NDArray[np.uint8]] | LeftOut


@dataclass(frozen=True)
class Chunk:
    """Some of the pictures: `data` as the model takes them, `found`: where they are from, of files;
    `left`: files that could not be used."""

    data: ImageData
    found: tuple[Found, ...] = ()
    left: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Pictures:
    """Pictures by name. `how` they are read; `folder`: where their files are; None where they are
    `data` in memory. `known`: those that have been looked for already. `before`: what is known of
    files that are no pictures before any is read."""

    names: tuple[str, ...]
    how: Preparation
    folder: Path | None = None
    data: ImageData | None = None
    known: Mapping[str, Found] = field(default_factory=dict)
    before: Account = field(default_factory=Account)

    def chunks(self, without: Collection[str] = ()) -> Iterator[Chunk]:
        """All but those called `without`."""
        size = self.how.channels * self.how.side**2
        count = max(LEAST, min(MOST, CHUNK_BYTES // size))
        wanted = [name for name in self.names if name not in without]
        parts = [wanted[start : start + count] for start in range(0, len(wanted), count)]
        yield from self._from_files(parts) if self.folder else self._from_memory(parts)

    def look(self, names: Sequence[str], side: int) -> Iterator[NDArray[np.uint8]]:
        """Each of these pictures (C, S, S) for people to look at: a file's at `side`, in colour."""
        if self.folder is None:
            assert self.data is not None
            rows = {name: row for row, name in enumerate(self.names)}
            yield from (self.data.images[rows[name]] for name in names)
            return
        missing = np.zeros((3, side, side), np.uint8)  # of a file that has gone meanwhile
        with quietly(), ThreadPoolExecutor() as pool:
            how = self._windowed(pool, names, replace(self.how, side=side, channels=3))
            for found in pool.map(lambda name: self._read(name, how), names):
                yield missing if isinstance(found, LeftOut) else found[1]

    def account(
        self, found: Sequence[Found], left: Sequence[LeftOut], without: Collection[str] = ()
    ) -> Account:
        """What became of every file, of which those called `without` were read another time."""
        used = {each.file for each in found}
        used |= {self.known[name].file if name in self.known else name for name in without}
        out = {each.name: each for each in (*self.before.left_out, *left)}
        window = (
            f"window {self.how.window}, the model's" if self.how.window else "a sample's window"
        )
        return replace(
            self.before,
            used=len(used) if self.folder else len(self.names),
            left_out=tuple(out[name] for name in sorted(out) if name not in used),
            notes=notes(found, self.how, window),
        )

    def _from_memory(self, parts: Sequence[Sequence[str]]) -> Iterator[Chunk]:
        assert self.data is not None
        rows = {name: row for row, name in enumerate(self.names)}
        for part in parts:
            yield Chunk(self.data.subset(np.array([rows[name] for name in part], np.int64)))

    def _from_files(self, parts: Sequence[Sequence[str]]) -> Iterator[Chunk]:
        with quietly(), ThreadPoolExecutor() as pool:
            how = self._windowed(pool, [name for part in parts for name in part], self.how)

            def begin(part: Sequence[str]) -> list[Future[Decoded]]:
                return [pool.submit(self._read, name, how) for name in part]

            coming = begin(parts[0]) if parts else []
            for number in range(len(parts)):
                now, coming = coming, begin(parts[number + 1]) if number + 1 < len(parts) else []
                decoded = [future.result() for future in now]
                kept = [each for each in decoded if not isinstance(each, LeftOut)]
                left = tuple(each for each in decoded if isinstance(each, LeftOut))
                pixels = np.empty((len(kept), how.channels, how.side, how.side), np.uint8)
                for row, (_, image) in enumerate(kept):
                    pixels[row] = image
                found = tuple(each for each, _ in kept)
                names = tuple(each.name for each in found)
                yield Chunk(ImageData(pixels, None, (), names, "natural"), found, left)

    def _windowed(
        self, pool: ThreadPoolExecutor, names: Sequence[str], how: Preparation
    ) -> Preparation:
        assert self.folder is not None
        files = (self.known[name].file if name in self.known else name for name in names)
        return with_window(pool, [self.folder / file for file in files], how)

    def _read(self, name: str, how: Preparation) -> Decoded:
        assert self.folder is not None
        found: Found | list[Found] | LeftOut | None = self.known.get(name)
        if found is None:
            found = pictures_in(self.folder, name, how)
        if isinstance(found, LeftOut):
            return found
        one = found[0] if isinstance(found, list) else found
        pixels = decode_one(one, how)
        return pixels if isinstance(pixels, LeftOut) else (one, pixels)


def pictures(spec: str, how: Preprocessing, pages: str = FIRST, largest: int = LARGEST) -> Pictures:
    """The pictures of a folder (and its subfolders), an .npz file or a data set, as `how` says;
    `pages`, `largest`: as `Preparation` has them. `UserError` where there is none, or an array has
    another shape."""
    folder, reading = place(spec), replace(how.preparation, pages=pages, largest=largest)
    if spec not in DATASETS and folder.is_dir():
        return _of_folder(folder, reading)
    data = load(spec, how=Preparation(window=reading.window))
    if (data.channels, data.side) != (how.channels, how.side):
        raise UserError(
            f"the encoder takes {how.channels}×{how.side}×{how.side} images, "
            f"those of {spec} are {data.channels}×{data.side}×{data.side}"
        )
    return Pictures(data.names, reading, data=data)


def _of_folder(folder: Path, how: Preparation) -> Pictures:
    listing = listed(folder)
    names, left, known = list(listing.images), listing.left_out, dict[str, Found]()
    if how.pages == ALL:  # how many pictures a file has, its header says
        with quietly(), ThreadPoolExecutor() as pool:
            found, more = find(pool, folder, names, how)
        known = {each.name: each for each in found}
        names, left = list(known), left + more
    before = Account(left_out=tuple(left), other=listing.other, hidden=listing.hidden)
    return Pictures(tuple(names), how, folder, known=known, before=before)
