"""Thumbnails as part of a page: pictures become `data:` addresses, so that nothing is loaded."""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

TILE, CELL = 96, 40  # pixels of a picture in a strip, and in the map
TINY = 32  # pixels up to which every one of them is kept
QUALITY = 72

Pixels = NDArray[np.uint8]


def tile(pixels: Pixels) -> str:
    """One picture (C, S, S) as the address of an image of at most `TILE` pixels."""
    image = _image(pixels)
    return _address(_smaller(image, TILE), exact=image.width <= TINY)


def sprite(pictures: Iterable[Pixels], count: int) -> tuple[str, int]:
    """All pictures in one image of cells, row by row: its address, and the cells in a row."""
    from PIL import Image  # noqa: PLC0415 (slow to import)

    across = max(1, int(np.ceil(np.sqrt(count))))
    sheet = Image.new("RGB", (across * CELL, max(1, -(-count // across)) * CELL))
    for number, pixels in enumerate(pictures):
        image = _image(pixels)
        how = Image.Resampling.NEAREST if image.width < CELL else Image.Resampling.BILINEAR
        place = (number % across * CELL, number // across * CELL)
        sheet.paste(image.resize((CELL, CELL), how), place)
    return _address(sheet, exact=False), across


def _image(pixels: Pixels) -> "Image":
    from PIL import Image  # noqa: PLC0415

    planes: Sequence[Pixels] = list(pixels)
    array = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
    return Image.fromarray(np.ascontiguousarray(array))


def _smaller(image: "Image", most: int) -> "Image":
    if image.width <= most:
        return image
    return image.resize((most, most))


def _address(image: "Image", exact: bool) -> str:
    data, kind = io.BytesIO(), "png" if exact else "webp"
    if exact:
        image.save(data, "png", optimize=True)
    else:
        image.convert("RGB").save(data, "webp", quality=QUALITY, method=4)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
