"""Levels that Pillow would lose: of which files, and how those of PPM are read whole.

HEIC, AVIF, colour JPEG 2000 and CMYK of more than 8 bits are decoded to 8, which is said. TIFF of
16 bits whose colours lie in planes of their own is none of Pillow's: it takes bytes for numbers.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.data.picture import UnusableError

EIGHT = 8
WHOLE = 255, 65535
BITS, PLANES = 258, 284  # TIFF's tags
APART = 2
START = 1 << 14  # bytes of a file that have its header
AV1 = b"av1C"  # then a byte, profile and level, and in the next one whether it has 10 or 12 bits
MORE = 0x40
SIZE = b"\xff\x4f\xff\x51"  # of JPEG 2000; 40 bytes on, the bits of the first colour, less one
DEPTH, OF_DEPTH = 40, 0x7F


def tag(image: Any, number: int) -> int:
    """A number of a TIFF's; 0 where it has none, or the file is another."""
    found = image.tag_v2.get(number, 0) if image.format == "TIFF" else 0
    return int(max(found) if isinstance(found, tuple) else found)


def in_planes(image: Any) -> bool:
    """Whether it is a TIFF of more than 8 bits whose colours are apart."""
    return tag(image, PLANES) == APART and tag(image, BITS) > EIGHT and len(image.getbands()) > 1


def is_deep_ppm(image: Any) -> bool:
    """Whether it is a PPM in colour of more than 8 bits, in bytes."""
    if image.format != "PPM":
        return False
    return any(tile.codec_name == "ppm" and tile.args[1] > WHOLE[0] for tile in image.tile)


def of_ppm(image: Any) -> NDArray[np.uint16]:
    """Its colours (H, W, 3), of which 65535 is white, as Pillow has grey ones."""
    (tile,) = image.tile
    image.fp.seek(tile.offset)
    wanted = image.width * image.height * 3
    found = np.frombuffer(image.fp.read(2 * wanted), ">u2")
    if len(found) < wanted:
        raise UnusableError("it is cut")
    scaled = np.rint(found * (WHOLE[1] / tile.args[1])).clip(0, WHOLE[1])
    colours: NDArray[np.uint16] = scaled.astype(np.uint16)
    return colours.reshape(image.height, image.width, 3)


def is_reduced(image: Any, path: Path) -> bool:
    """Whether a file that is decoded to 8 bits has more, as far as its header says."""
    if image.format == "TIFF":
        return tag(image, BITS) > EIGHT
    if image.format == "HEIF":
        return int(image.info.get("bit_depth", EIGHT)) > EIGHT
    if image.format == "PPM":
        return any(isinstance(t.args, tuple) and t.args[-1] > WHOLE[0] for t in image.tile)
    if image.format not in ("AVIF", "JPEG2000"):
        return False
    with path.open("rb") as file:
        head = file.read(START)
    if image.format == "AVIF":
        place = head.find(AV1) + len(AV1) + 2
        return AV1 in head and place < len(head) and bool(head[place] & MORE)
    place = head.find(SIZE) + DEPTH
    return SIZE in head and place < len(head) and (head[place] & OF_DEPTH) + 1 > EIGHT
