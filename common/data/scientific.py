"""TIFF files that Pillow does not take: 64-bit and 16-bit floats, colour in floats, large integers,
colours of 16 bits in planes of their own.

They are read where `tifffile` is installed (the extra `photos`).
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.data.picture import Deep, Header, UnusableError
from common.data.pil import INSTALL, named

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, in either byte order
COLOURS = 3
SHOWN = (0, 1, 2)  # as what values are meant: grey, low is white or black, and RGB
COMPRESSIONS = (1, 8, 32946, 32773)  # none, Deflate (two numbers), PackBits


def read_header(path: Path) -> Header:
    """What the file is; `UnusableError` where it has no picture of one or three channels."""
    with named(path), _opened(path) as file:
        page = _pages(file)[0]
        _check(page)
        return Header(
            page.imagewidth,
            page.imagelength,
            grey=page.samplesperpixel < COLOURS,
            deep=True,
            pages=len(_pages(file)),
        )


def read_picture(path: Path, page: int, _side: int) -> Deep:
    """Page `page` (from 0) of the file."""
    with named(path), _opened(path) as file:
        chosen = _pages(file)[page]
        _check(chosen)
        values: NDArray[Any] = chosen.asarray()
        if chosen.samplesperpixel > 1 and chosen.planarconfig == 2:
            values = np.moveaxis(values, 0, -1)
        values = values.reshape(chosen.imagelength, chosen.imagewidth, chosen.samplesperpixel)
        colours = values[..., :COLOURS] if chosen.samplesperpixel >= COLOURS else values[..., 0]
        return Deep(colours, inverted=int(chosen.photometric) == 0)


def _opened(path: Path) -> Any:
    if find_spec("tifffile") is None:
        raise UnusableError(f"a kind of TIFF that needs tifffile ({INSTALL})")
    import logging  # noqa: PLC0415

    from tifffile import TiffFile  # noqa: PLC0415

    logging.getLogger("tifffile").disabled = True  # what is wrong is said in our words
    return TiffFile(path)


def _pages(file: Any) -> list[Any]:
    pages = list(file.pages)
    if not pages:
        raise UnusableError("it is cut")
    return [page for page in pages if not page.is_reduced] or pages


def _check(page: Any) -> None:
    if page.dtype is None or page.dtype.kind not in "iuf":
        raise UnusableError("a kind of TIFF that is not read: its values are no plain numbers")
    if int(page.compression) not in COMPRESSIONS:
        raise UnusableError("a kind of TIFF that is not read: its compression")
    if int(page.photometric) not in SHOWN:
        raise UnusableError("a kind of TIFF that is not read: its colours are no RGB")
    if page.imagedepth != 1:
        raise UnusableError("a TIFF of volumes: save it as a stack of pages")
