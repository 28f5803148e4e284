"""What an image is known by, whatever is made of it: a digest of what is stored.

Of a folder's image it is that of its file's bytes, of an array's that of its values as they lie in
the file. So it stays the same for any side, colours or window, and for any name.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from common.data.images import Indices
from common.data.known import DATASETS
from common.data.npz import stored_images
from common.utils.errors import UserError
from common.utils.names import place

KNOWN = 1 << 17  # files whose digests a process keeps
PAGE = re.compile(r"#\d+$")  # behind the name of a file that gives several images


@dataclass(frozen=True)
class Identity:
    """`digest`: SHA-256 in hex digits, of so many bytes."""

    digest: str
    size: int


def identities(spec: str, names: Sequence[str]) -> list[Identity]:
    """Those of the images of the data `spec` that are called so (`ImageData.names`); pages of one
    file have the same. `UserError` for one that is not there or cannot be read."""
    if _is_folder(spec):
        return [_of_file(_file(spec, name), name) for name in names]
    stored = _stored(spec)
    known = {str(index) for index in range(len(stored))}
    for name in names:
        if name not in known:
            raise UserError(f"{spec} has no image {name!r}: it has 0 to {len(stored) - 1}")
    return [_of_bytes(stored[int(name)]) for name in names]


def count_stored(spec: str) -> int:
    """How many images the arrays of `spec` have."""
    return len(_stored(spec))


def rows_of(spec: str, names: Sequence[str], wanted: Collection[Identity]) -> Indices:
    """Which of the images called `names` are among the `wanted`. Of a folder only files of a size
    that is wanted are read; one that is not there any more counts as wanted."""
    if not wanted or not names:
        return np.zeros(0, np.int64)
    if not _is_folder(spec):
        found = (each in wanted for each in identities(spec, names))
        return _rows(found)
    sizes = {each.size for each in wanted}
    known: dict[Path, bool] = {}

    def is_wanted(name: str) -> bool:
        path = _file(spec, name)
        if path not in known:
            known[path] = not path.is_file() or (
                path.stat().st_size in sizes and _of_file(path, name) in wanted
            )
        return known[path]

    return _rows(map(is_wanted, names))


def _rows(marks: Iterable[bool]) -> Indices:
    return np.flatnonzero(np.fromiter(marks, bool)).astype(np.int64)


def _is_folder(spec: str) -> bool:
    return spec not in DATASETS and place(spec).is_dir()


def _file(spec: str, name: str) -> Path:
    """The file of an image: `name` is its own, or that of one of its pages."""
    path = place(spec) / name
    return path if path.exists() else place(spec) / PAGE.sub("", name)


def _of_file(path: Path, name: str) -> Identity:
    try:
        facts = path.stat()
        return _of_content(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)
    except OSError as error:
        raise UserError(f"{name!r} cannot be read: {error.strerror or error}") from None


@lru_cache(maxsize=KNOWN)
def _of_content(path: Path, *_: int) -> Identity:
    """Of a file with such a size, time of change and inode: read once by a process."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Identity(digest, file.tell())


def _stored(spec: str) -> Sequence[np.ndarray]:
    if spec in DATASETS:
        data = DATASETS[spec].read(test=False)
        assert data is not None
        return list(data.images)
    return list(stored_images(place(spec)))


def _of_bytes(image: np.ndarray) -> Identity:
    about = f"{image.dtype.str}{image.shape}".encode()
    return Identity(hashlib.sha256(about + image.tobytes()).hexdigest(), image.nbytes)
