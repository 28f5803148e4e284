"""A folder of images, as a site's operator keeps them.

Subfolders are classes; a folder without subfolders has no labels. Nothing outside the folder is
read: links that lead out of it are left out, and so are hidden files.
"""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.data.images import ImageData, Indices, Pixels, class_name, draw_order
from common.utils.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
LARGEST_SIDE = 224  # unless a side is asked for: what encoders are usually trained at
GREY_MODES = frozenset({"L", "LA", "1", "I", "I;16", "I;16B", "I;16L"})


@dataclass(frozen=True)
class _Found:
    """A file whose header could be read. `name`: relative to the folder."""

    path: Path
    name: str
    shorter: int
    grey: bool


def read_folder(
    folder: Path, *, images: int = 0, seed: int = 0, side: int = 0, channels: int = 0
) -> ImageData:
    """The images of `folder`, centre-cropped to a square and scaled to one side.

    side: `side` if given, else the most common shorter side (of equally common ones the smallest),
    at most 224. `channels`: 1 for grey, 3 for RGB; 0: grey if every image is, else RGB. `images`
    > 0 draws that many readable ones by `seed`. Files that cannot be read are named in
    `unreadable`. `UserError` where no image is left, where images lie both beside and inside
    subfolders, or where there are fewer than asked for.
    """
    names, outside = _list(folder)
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(partial(_header, folder), names))
        found = [header for header in headers if header is not None]
        broken = [name for name, h in zip(names, headers, strict=True) if h is None]
        if not found:
            raise _nothing(folder, broken, outside)
        side = side or min(_most_common([image.shorter for image in found]), LARGEST_SIDE)
        grey = channels == 1 or (channels == 0 and all(image.grey for image in found))
        order = (
            draw_order(len(found), images, seed, str(folder)) if images else np.arange(len(found))
        )
        wanted = images or len(found)
        pixels, kept, cut = _decode(pool, found, order, wanted, (1 if grey else 3, side))
    broken += cut
    if not len(kept):
        raise _nothing(folder, broken, outside)
    if images and len(kept) < images:
        raise UserError(f"asked for {images} images, but {folder} has {len(kept)} that can be read")
    chosen = tuple(found[i].name for i in kept)
    labels, classes = _labels(found, chosen)
    unreadable = tuple(sorted(broken + outside))
    return ImageData(pixels, labels, classes, chosen, "natural", unreadable)


def list_images(folder: Path) -> list[str]:
    """Names of the image files in `folder`, relative to it, sorted; whether they can be read is not
    looked at. `UserError` where there is none."""
    names, outside = _list(folder)
    if not names:
        raise _nothing(folder, [], outside)
    return names


def _nothing(folder: Path, broken: Sequence[str], outside: Sequence[str]) -> UserError:
    if broken:
        return UserError(f"none of the {len(broken)} images in {folder} can be read: {broken[0]}")
    if outside:
        return UserError(
            f"there is no image in {folder}: links that lead out of it, such as {outside[0]}, "
            "are not followed"
        )
    kinds = " ".join(sorted(suffix[1:] for suffix in SUFFIXES))
    return UserError(f"there is no image in {folder} ({kinds})")


def _list(folder: Path) -> tuple[list[str], list[str]]:
    """(names of image files inside, names of links that lead out), each sorted."""
    root = folder.resolve()
    inside: list[str] = []
    outside: list[str] = []
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in links + [n for n in files if Path(n).suffix.lower() in SUFFIXES]:
            path = Path(place) / name
            if name.startswith("."):
                continue
            if name not in links and path.resolve().is_relative_to(root):
                inside.append(path.relative_to(folder).as_posix())
            else:
                outside.append(path.relative_to(folder).as_posix())
    beside = [name for name in inside if "/" not in name]
    if beside and len(beside) < len(inside):
        raise UserError(
            f"{folder} has images both beside its subfolders ({min(beside)}) and inside them: "
            "put all into subfolders (classes), or none"
        )
    return sorted(inside), sorted(outside)


def _header(folder: Path, name: str) -> _Found | None:
    from PIL import Image  # noqa: PLC0415 (the command line starts without it)

    try:
        with Image.open(folder / name) as image:
            if image.mode == "F":  # floats have no range that would say what is white
                return None
            return _Found(folder / name, name, min(image.size), image.mode in GREY_MODES)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _decode(
    pool: ThreadPoolExecutor,
    found: Sequence[_Found],
    order: Indices,
    wanted: int,
    shape: tuple[int, int],
) -> tuple[Pixels, Indices, list[str]]:
    """The first `wanted` files of `order` that can be decoded: pixels (M, C, side, side) and their
    indices (M,), ascending; and the names of those that could not. `shape`: (channels, side)."""
    channels, side = shape
    pixels = np.empty((wanted, channels, side, side), np.uint8)
    kept: list[int] = []
    cut: list[str] = []
    read = partial(read_picture, side=side, grey=channels == 1)
    start = 0
    while len(kept) < wanted and start < len(order):
        block = order[start : start + wanted - len(kept)]
        start += len(block)
        for index, image in zip(block, pool.map(read, [found[i].path for i in block]), strict=True):
            if image is None:
                cut.append(found[index].name)
            else:
                pixels[len(kept)] = image
                kept.append(int(index))
    rows = np.argsort(kept)
    if len(kept) == wanted and np.array_equal(rows, np.arange(wanted)):
        return pixels, np.array(kept, np.int64), cut
    return pixels[rows], np.array(kept, np.int64)[rows], cut


def read_picture(path: Path, side: int, grey: bool) -> Pixels | None:
    """One file as (C, side, side); None if it is cut or damaged."""
    from PIL import Image  # noqa: PLC0415

    try:
        with Image.open(path) as opened:
            opened.draft(None, (side, side))  # JPEG: decode at a fraction of a large photograph
            return fitted(opened, side, grey)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return None


def fitted(opened: "Image", side: int, grey: bool) -> Pixels:
    """The middle square of a PIL image, upright, as (C, side, side)."""
    from PIL import Image, ImageOps  # noqa: PLC0415

    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # 16 bits, which PIL would clip to 255
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((wide // 256).astype(np.uint8))
    image = image.convert("L" if grey else "RGB")
    image = ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _labels(
    found: Sequence[_Found], chosen: Sequence[str]
) -> tuple[Indices | None, tuple[str, ...]]:
    """Labels of the chosen files by their first folder; None for a flat folder."""
    if "/" not in chosen[0]:
        return None, ()
    folders = sorted({image.name.split("/")[0] for image in found})
    number = {name: i for i, name in enumerate(folders)}
    labels = np.array([number[name.split("/")[0]] for name in chosen], np.int64)
    return labels, tuple(map(class_name, folders))


def _most_common(sides: Sequence[int]) -> int:
    counts = Counter(sides)
    return min(counts, key=lambda side: (-counts[side], side))
