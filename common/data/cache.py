"""A folder's images on disk, mapped into memory: for those that memory does not hold.

Built once: `NAME.pixels` has one row for each picture that was found, `NAME.done` says which rows
are there, so that a build that was ended goes on. When all are there, `NAME.json` says so, and of
which pictures they are. `NAME` is a digest of the files (names, sizes, times) and of how they
become images: where either changes, another cache is built, and the oldest is deleted.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.config.preparation import Preparation, Window
from common.data.decoding import Found, Watch, block_of, decode_rows
from common.data.images import Indices, Pixels
from common.record.account import Kind, LeftOut
from common.utils.errors import UserError
from common.utils.files import write_atomic
from common.utils.lock import locked

KEPT = 2  # caches: that of a site's own form, and that of a run's plan
PATIENCE = 5.0  # seconds for another process that builds one
PRIVATE = 0o600
ENDINGS = ("pixels", "done", "json")


def cache_of(folder: Path) -> Path:
    """Where a site with this folder keeps images that memory does not hold."""
    return folder / "private" / "images"


def cached(
    folder: Path,
    found: Sequence[Found],
    how: Preparation,
    window: Window | None,
    watch: Watch | None = None,
) -> tuple[Pixels, Indices, list[LeftOut]]:
    """The images of `found` (M, C, side, side) as a mapped array, their indices (M,) and the files
    that could not be decoded; `watch` is told how many are done, and of how many. `UserError` where
    the disk has no room, or another process builds the same."""
    name = _digest(found, how, window)
    shape = (len(found), how.channels, how.side, how.side)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(folder / ".lock", PATIENCE):
        if not (folder / f"{name}.json").exists():
            _prune(folder, name)
            _check_room(folder, name, int(np.prod(shape)))
            _build(folder, name, shape, found, how, window, watch)
    return _open(folder, name, shape)


def _digest(found: Sequence[Found], how: Preparation, window: Window | None) -> str:
    digest = hashlib.sha256(f"{how.to_json()} {window}".encode())
    for each in found:
        facts = each.path.stat()
        digest.update(f"{each.page} {facts.st_size} {facts.st_mtime_ns} ".encode())
        digest.update(os.fsencode(each.file) + b"\0")
    return digest.hexdigest()[:16]


def _build(
    folder: Path,
    name: str,
    shape: tuple[int, ...],
    found: Sequence[Found],
    how: Preparation,
    window: Window | None,
    watch: Watch | None,
) -> None:
    pixels = _mapped(folder / f"{name}.pixels", shape)
    done = _mapped(folder / f"{name}.done", shape[:1])
    missing = np.flatnonzero(done == 0)
    left: list[LeftOut] = []
    step = block_of(shape)
    for start in range(0, len(missing), step):
        rows = missing[start : start + step]
        for row, image in zip(
            rows, decode_rows([found[i] for i in rows], how, window), strict=True
        ):
            if isinstance(image, LeftOut):
                left.append(image)
            else:
                pixels[row] = image
        pixels.flush()  # before it is said that they are there
        cut = {each.name for each in left}
        done[[row for row in rows if found[row].name not in cut]] = 1
        done.flush()
        if watch:
            watch(len(found) - len(missing) + start + len(rows), len(found))
    kept = np.flatnonzero(done)
    _close_up(folder, name, pixels, kept)
    told = {
        "kept": kept.tolist(),
        "left": [[each.name, each.kind.value, each.why] for each in left],
    }
    write_atomic(folder / f"{name}.json", json.dumps(told).encode())
    (folder / f"{name}.done").unlink(missing_ok=True)


def _close_up(folder: Path, name: str, pixels: Pixels, kept: Indices) -> None:
    """Move the rows that are there to the front, where some are not. It cannot be gone on with: a
    build that ends in it begins anew."""
    if len(kept) == len(pixels):
        return
    (folder / f"{name}.done").unlink()
    for row, index in enumerate(kept):
        pixels[row] = pixels[index]


def _open(folder: Path, name: str, shape: tuple[int, ...]) -> tuple[Pixels, Indices, list[LeftOut]]:
    try:
        told: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        kept = np.array(told["kept"], np.int64)
        left = [LeftOut(file, Kind(kind), why) for file, kind, why in told["left"]]
        # Copy on write: torch wants a writable array, and the file stays what it is.
        path, of = folder / f"{name}.pixels", (len(kept), *shape[1:])
        pixels = np.memmap(path, np.uint8, "c", shape=of) if len(kept) else np.empty(of, np.uint8)
    except (OSError, ValueError, TypeError, KeyError):
        (folder / f"{name}.json").unlink(missing_ok=True)
        raise UserError(f"{folder}: its cache of images is damaged; try again") from None
    os.utime(folder / f"{name}.json")
    return pixels, kept, left


def _mapped(path: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.uint8]]":
    """A file of bytes of this shape, made where it is not there, mapped for writing."""
    size = int(np.prod(shape))
    with open(path, "ab", opener=lambda p, flags: os.open(p, flags, PRIVATE)) as file:
        if file.tell() != size:
            file.truncate(size)
    return np.memmap(path, np.uint8, "r+", shape=shape)


def _check_room(folder: Path, name: str, size: int) -> None:
    path = folder / f"{name}.pixels"
    there = path.stat().st_blocks * 512 if path.exists() else 0
    free = shutil.disk_usage(folder).free
    if size - there > free:
        raise UserError(
            f"the images need {size / 1e9:.1f} GB, which neither memory nor {folder} has "
            f"({free / 1e9:.1f} GB are free): a smaller --side, or another disk (--folder)"
        )


def _prune(folder: Path, name: str) -> None:
    """Delete all caches but this one and the ones used last."""
    names = {path.stem for path in folder.iterdir() if path.suffix[1:] in ENDINGS} - {name}

    def used(each: str) -> float:
        paths = [folder / f"{each}.{ending}" for ending in ENDINGS]
        return max(path.stat().st_mtime for path in paths if path.exists())

    for old in sorted(names, key=used, reverse=True)[KEPT - 1 :]:
        for ending in ENDINGS:
            (folder / f"{old}.{ending}").unlink(missing_ok=True)
