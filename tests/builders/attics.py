"""Folders of pictures as people have them: four shapes, in files of every kind."""

import struct
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.builders.pictures import dicom, png16, tiff

SHAPES = ("disc", "stripes", "cross", "square")
KINDS = 9
BESIDE = 3  # pictures of `attic` that are none of the shapes': two X-rays, and a copy
COUNTS = {
    "used": 4 * 12 + BESIDE,
    "copies": 1,
    "unreadable": 2,
    "too_large": 1,
    "other": 2,
    "hidden": 1,
}
"""What becomes of an attic's files."""


def drawn(shape: str, rng: np.random.Generator, side: int = 48) -> NDArray[np.uint8]:
    """(side, side, 3): one shape, somewhere, in its colour."""
    y, x = np.mgrid[0:side, 0:side] / side
    cx, cy, size = *rng.uniform(0.4, 0.6, 2), rng.uniform(0.22, 0.32)
    mask, colour = {
        "disc": ((x - cx) ** 2 + (y - cy) ** 2 < size**2, (0.9, 0.3, 0.2)),
        "stripes": (np.sin((x + y) * rng.uniform(25, 35)) > 0, (0.2, 0.6, 0.9)),
        "cross": ((abs(x - cx) < 0.09) | (abs(y - cy) < 0.09), (0.3, 0.9, 0.3)),
        "square": ((abs(x - cx) < size) & (abs(y - cy) < size), (0.9, 0.85, 0.3)),
    }[shape]
    picture = np.full((side, side, 3), 0.15) + rng.normal(0, 0.02, (side, side, 3))
    picture[mask] = np.array(colour) * rng.uniform(0.9, 1.1)
    return (picture.clip(0, 1) * 255).astype(np.uint8)


def attic(folder: Path, seed: int, each: int = 12) -> Path:
    """`each` pictures of every shape in `folder`, whose names begin with the shape; beside them
    X-rays of 12 bits (DICOM, and a PNG of 16 bits), a copy, a scan of 400 megapixels, a cut file,
    an empty one, and what is no picture."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(each):
        for shape in SHAPES:
            save(folder / f"{shape}-{number:02}", drawn(shape, rng), number % KINDS)
    deep = (drawn("disc", rng).mean(2) * 16).astype(np.uint16)
    dicom(folder / "x-ray.dcm", deep, BitsStored=12)
    (folder / "x-ray.png").write_bytes(png16(deep + 3))
    (folder / "scan.png").write_bytes(huge())
    whole = (folder / "disc-00.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "again.jpg").write_bytes(whole)
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("not a picture")
    (folder / "film.mov").write_bytes(bytes(9))
    (folder / ".DS_Store").touch()
    return folder


def huge() -> bytes:
    """How a PNG of 20,000 × 20,000 pixels begins."""
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\x09IDAT"


def save(path: Path, picture: NDArray[np.uint8], kind: int) -> None:
    """Write it as the `kind`-th of `KINDS` kinds of file."""
    image = Image.fromarray(picture)
    if kind == 1:
        path.with_suffix(".png").write_bytes(png16(picture.astype(np.uint16) * 16))
    elif kind == 2:
        image.convert("CMYK").save(path.with_suffix(".tif"))
    elif kind == 3:
        image.quantize(64).save(path.with_suffix(".gif"))
    elif kind == 4:
        alpha = np.full(picture.shape[:2], 255, np.uint8)
        alpha[:1] = 0  # what shows through there is the background
        image.putalpha(Image.fromarray(alpha))
        image.save(path.with_suffix(".png"))
    elif kind == 5:
        path.with_suffix(".tiff").write_bytes(tiff(picture.astype(np.uint16) * 16, picture))
    elif kind == 6:
        image.save(path.with_suffix(".webp"), quality=95)
    elif kind == 7:
        image.save(path.with_suffix(".avif"), quality=90)
    elif kind == 8 and find_spec("pillow_heif"):
        from pillow_heif import from_pillow  # noqa: PLC0415 (an extra)

        from_pillow(image).save(path.with_suffix(".heic"), quality=95)
    else:
        image.save(path.with_suffix(".jpg"), quality=95)
