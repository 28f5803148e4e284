"""Which reader takes a file: by its first bytes, not by its name alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from common.data import dicom, pil, scientific
from common.data.listing import HEAD, is_dicom
from common.data.picture import Deep, Header, UnusableError, checked

if TYPE_CHECKING:
    from PIL.Image import Image


def read_header(path: Path) -> Header:
    """What the file is; `UnusableError` where it is no picture."""
    head = _head(path)
    if _is_dicom(path, head):
        return dicom.read_header(path)
    try:
        return pil.read_header(path)
    except UnusableError as error:
        if not head.startswith(scientific.MAGICS):
            raise
        with _or(error):
            return scientific.read_header(path)


def read_picture(path: Path, page: int = 0, side: int = 0) -> "Image | Deep":
    """Picture `page` (from 0) of the file, upright: of 8 bits as Pillow's, else its numbers.
    `side`: no more than this is needed of either side; 0: all. `UnusableError` says what is wrong
    with the file."""
    head = _head(path)
    if _is_dicom(path, head):
        found = dicom.read_picture(path, page, side)
    else:
        found = _read_picture(path, head, page, side)
    return checked(found) if isinstance(found, Deep) else found


def _read_picture(path: Path, head: bytes, page: int, side: int) -> "Image | Deep":
    try:
        return pil.read_picture(path, page, side)
    except UnusableError as error:
        if not head.startswith(scientific.MAGICS):
            raise
        with _or(error):
            return scientific.read_picture(path, page, side)


@contextmanager
def _or(first: UnusableError) -> Iterator[None]:
    """What Pillow said, unless it only did not know the kind: then what is said inside."""
    try:
        yield
    except UnusableError as second:
        raise (second if first.why == pil.UNKNOWN else first) from None


def _head(path: Path) -> bytes:
    with pil.named(path), path.open("rb") as file:
        return file.read(HEAD)


def _is_dicom(path: Path, head: bytes) -> bool:
    return is_dicom(head) or path.suffix.lower() in dicom.SUFFIXES
