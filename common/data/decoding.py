"""Files of one folder into one array: their headers, their window, their pixels, with many threads
at a time."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.config.preparation import ALL, FIRST, OWN, Preparation, Window
from common.data.formats import read_header, read_picture
from common.data.images import Indices, Pixels
from common.data.picture import Deep, Header, UnusableError, sample, shaped
from common.record.account import Kind, LeftOut

SAMPLED = 256  # deep pictures that a window is made from, evenly spread over the sorted names
VALUES = 8192  # of each
PERCENTILES = (0.1, 99.9)
WHOLE = Window(0, 65535)  # where all sampled values are the same: that of 16 bits


BLOCK = 1024  # pictures that are decoded before it is said how far it is, or as many as are
BLOCK_BYTES = 1 << 27  # of pixels
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Found:
    """A picture that can be used: page `page` of the file `path`, whose header is read. `name`:
    relative to the folder, with `#2` behind it where a file gives several."""

    path: Path
    file: str
    name: str
    page: int
    header: Header


def find(
    pool: ThreadPoolExecutor, folder: Path, names: Sequence[str], how: Preparation
) -> tuple[list[Found], list[LeftOut]]:
    """The pictures of the files `names`, and which files have none, or a larger one than wanted."""
    found: list[Found] = []
    left: list[LeftOut] = []
    for each in pool.map(partial(pictures_in, folder, how=how), names):
        if isinstance(each, LeftOut):
            left.append(each)
        else:
            found += each
    return found, left


def pictures_in(folder: Path, name: str, how: Preparation) -> list[Found] | LeftOut:
    """The pictures of the file `name`, or why there are none."""
    header = _header(folder / name, how.largest)
    if isinstance(header, LeftOut):
        return replace(header, name=name)
    pages = _pages(header, how.pages)
    if not pages:
        why = f"it has no page {how.pages}: it has {header.pages}"
        return LeftOut(name, Kind.UNREADABLE, why)
    several = len(pages) > 1
    called = (f"{name}#{page + 1}" if several else name for page in pages)
    return [
        Found(folder / name, name, each, page, header)
        for each, page in zip(called, pages, strict=True)
    ]


def _pages(header: Header, wanted: str) -> range:
    """Indices of the pages to use; none where there is no such page."""
    if wanted == ALL:
        return range(header.pages)
    first = 0 if wanted == FIRST or header.pages == 1 else int(wanted) - 1
    return range(first, first + 1) if first < header.pages else range(0)


def _header(path: Path, largest: int) -> Header | LeftOut:
    try:
        header = read_header(path)
    except UnusableError as error:
        return LeftOut("", error.kind, error.why)
    megapixels = header.width * header.height / 1e6
    if megapixels > largest:
        why = (
            f"{header.width:,} × {header.height:,} pixels, more than {largest} megapixels: "
            f"--largest {int(-(-megapixels // 1))} reads it"
        )
        return LeftOut("", Kind.TOO_LARGE, why)
    return header


def decode_one(found: Found, how: Preparation) -> Pixels | LeftOut:
    """One picture as (C, side, side), with all of `how` given, or why there is none."""
    return _pixels(found, how, how.given_window, how.channels == 1)


def with_window(pool: ThreadPoolExecutor, files: Sequence[Path], how: Preparation) -> Preparation:
    """`how` with a window, where it leaves that open and a sample of the files has pictures of more
    than 8 bits."""
    if how.window:
        return how
    chosen = files[:: max(1, -(-len(files) // SAMPLED))]
    sampled = pool.map(lambda path: pictures_in(path.parent, path.name, how), chosen)
    found = [each[0] for each in sampled if not isinstance(each, LeftOut)]
    window, _ = window_of(pool, found, how)
    return how if window is None else replace(how, window=str(window))


def window_of(
    pool: ThreadPoolExecutor, found: Sequence[Found], how: Preparation
) -> tuple[Window | None, str]:
    """The window for pictures of more than 8 bits that have none of their own, and how it came
    about, in a sentence; None where there are none."""
    deep = [each for each in found if each.header.deep]
    if not deep:
        return None, ""
    if how.given_window is not None:
        return how.given_window, f"window {how.given_window}, as given"
    step = -(-len(deep) // SAMPLED)
    chosen = deep[::step]
    taken = pool.map(partial(_values, own=how.window == OWN), chosen)
    values = np.concatenate([np.empty(0), *taken])
    if not values.size:
        return WHOLE, "each file's own window"
    low, high = (float(v) for v in np.percentile(values, PERCENTILES))
    window = Window.parse(str(Window(low, high) if low < high else _whole(low)))  # as it is told
    least, most = PERCENTILES
    said = (
        f"window {window} ({least:g} and {most:g} % of the values of {len(chosen):,} of them, "
        f"{values.min():.8g} to {values.max():.8g}; --window LOW:HIGH chooses another)"
    )
    return window, said


def _whole(value: float) -> Window:
    """A window for pictures that are all of one value."""
    return WHOLE if WHOLE.low <= value <= WHOLE.high else Window(value - 1, value + 1)


def _values(found: Found, own: bool) -> NDArray[np.float64]:
    """Sampled values of a file; none where it is damaged, or has a window of its `own`."""
    try:
        picture = read_picture(found.path, found.page)
    except UnusableError:
        return np.empty(0)
    if not isinstance(picture, Deep) or (own and picture.own is not None):
        return np.empty(0)
    return sample(picture, VALUES)


def block_of(shape: Sequence[int]) -> int:
    """How many of images (N, C, H, W) are decoded at a time."""
    return max(16, min(BLOCK, BLOCK_BYTES // math.prod(shape[1:])))


def decode_rows(
    found: Sequence[Found], how: Preparation, window: Window | None
) -> Iterator[Pixels | LeftOut]:
    """Each picture as (C, side, side), or why it is none, in their order."""
    read = partial(_pixels, how=how, window=window, grey=how.channels == 1)
    with ThreadPoolExecutor() as pool:
        yield from pool.map(read, found)


def decode(
    found: Sequence[Found],
    order: Indices,
    out: Pixels,
    how: Preparation,
    window: Window | None,
    watch: Watch | None = None,
) -> tuple[Indices, list[LeftOut]]:
    """The first pictures of `order` that can be decoded, into `out` (M, C, side, side): their
    indices (m,) in the order of the rows, and the files that could not be. `watch` is told how
    many are done, and of how many."""
    wanted = len(out)
    kept: list[int] = []
    cut: list[LeftOut] = []
    start = 0
    while len(kept) < wanted and start < len(order):
        block = order[start : start + min(block_of(out.shape), wanted - len(kept))]
        start += len(block)
        for index, image in zip(
            block, decode_rows([found[i] for i in block], how, window), strict=True
        ):
            if isinstance(image, LeftOut):
                cut.append(image)
            else:
                out[len(kept)] = image
                kept.append(int(index))
        if watch:
            watch(len(kept), wanted)
    return np.array(kept, np.int64), cut


def _pixels(found: Found, how: Preparation, window: Window | None, grey: bool) -> Pixels | LeftOut:
    """One picture as (C, side, side)."""
    try:
        picture = read_picture(found.path, found.page, how.side)
        if isinstance(picture, Deep):
            own = picture.own if how.window == OWN else None
            picture = picture.shown(own or window or WHOLE)
        return shaped(picture, how, grey)
    except UnusableError as error:
        return LeftOut(found.name, error.kind, error.why)
    except MemoryError:
        return LeftOut(found.name, Kind.TOO_LARGE, "it does not fit into memory")
    except (OSError, ValueError) as error:  # of a conversion that PIL has not
        return LeftOut(found.name, Kind.UNREADABLE, str(error).splitlines()[0])
