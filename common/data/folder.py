"""A folder of images, as a site's operator keeps them.

Subfolders are classes; a folder without subfolders has no labels. Nothing outside the folder is
read. Every file is accounted for (`common/record/account.py`).
"""

import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.config.preparation import ALL, AUTO, Preparation
from common.data.cache import cached
from common.data.decoding import Found, Watch, decode, find, window_of
from common.data.images import ImageData, Indices, Pixels, class_name, draw_order
from common.data.listing import SUFFIXES, Listing, check_classes, copies, list_folder
from common.data.picture import LONG
from common.data.pil import quietly
from common.record.account import Account, Kind, LeftOut
from common.utils.errors import UserError
from common.utils.memory import available

LOG = logging.getLogger(__name__)
SHARE = 0.5  # of the free memory, from where images are kept on disk
LARGEST_SIDE = 224  # unless a side is asked for: what encoders are usually trained at


def read_folder(
    folder: Path,
    how: Preparation = AUTO,
    *,
    images: int = 0,
    seed: int = 0,
    cache: Path | None = None,
    watch: Watch | None = None,
) -> ImageData:
    """The images of `folder`, made as `how` says: of one side (if not given, the most common
    shorter side, of equally common ones the smallest, at most 224), grey or RGB.

    `images` > 0 draws that many readable ones by `seed`. Where memory does not hold them all, they
    are kept in the folder `cache`, if there is one, and mapped; `watch` is told how many are
    decoded, and of how many. What became of every file is in `account`.
    `UserError` where no image is left, where images lie both beside and inside subfolders, or where
    there are fewer than asked for.
    """
    listing = list_folder(folder)
    check_classes(folder, listing.images)
    with quietly(), ThreadPoolExecutor() as pool:
        found, left = find(pool, folder, list(listing.images), how)
        left = listing.left_out + left
        files = dict.fromkeys(each.file for each in found)
        same = copies(folder, ((name, listing.images[name]) for name in files))
        if how.copies == "drop":
            found = [each for each in found if each.file not in same]
            left += [LeftOut(n, Kind.DUPLICATE, f"the same as {of}") for n, of in same.items()]
        if not found:
            raise _nothing(folder, left, listing)
        side = how.side or min(_most_common([f.header.shorter for f in found]), LARGEST_SIDE)
        grey = how.channels == 1 or (how.channels == 0 and all(f.header.grey for f in found))
        how = replace(how, side=side, channels=1 if grey else 3)
        window, said = window_of(pool, found, how)
    order = draw_order(len(found), images, seed, str(folder)) if images else np.arange(len(found))
    count = images or len(found)
    with quietly():
        if cache is not None and not images and count * how.channels * side**2 > _room():
            pixels, kept, cut = cached(cache, found, how, window, watch)
        else:
            pixels = _empty((count, how.channels, side, side))
            kept, cut = decode(found, order, pixels, how, window, watch)
    left += cut
    if not len(kept):
        raise _nothing(folder, left, listing)
    if images and len(kept) < images:
        raise UserError(f"asked for {images} images, but {folder} has {len(kept)} that can be read")
    pixels, kept = _sorted(pixels, kept)
    chosen = [found[i] for i in kept]
    labels, classes = _labels(found, chosen)
    account = _account(found, chosen, left, listing)
    alike = sum(file in same for file in {each.file for each in chosen})
    account = replace(account, copies=alike, notes=notes(chosen, how, said))
    return ImageData(
        pixels,
        labels,
        classes,
        tuple(each.name for each in chosen),
        "natural",
        account,
        how if window is None else replace(how, window=how.window or str(window)),
    )


def _room() -> float:
    """Bytes of memory that images may take."""
    return available() * SHARE


def _empty(shape: tuple[int, int, int, int]) -> Pixels:
    size = int(np.prod(shape))
    if size > available():
        raise UserError(
            f"{shape[0]:,} images of {shape[1]}×{shape[2]}×{shape[3]} are {size / 1e9:.1f} GB, and "
            f"{available() / 1e9:.1f} GB of memory are free: a smaller --side, or fewer images"
        )
    return np.empty(shape, np.uint8)


def list_images(folder: Path) -> list[str]:
    """Names of the image files in `folder`, relative to it, sorted; whether they can be read is not
    looked at. `UserError` where there is none, or where it is not told which are classes."""
    listing = listed(folder)
    check_classes(folder, listing.images)
    return list(listing.images)


def listed(folder: Path) -> Listing:
    """Everything in `folder`, of which some may be images; `UserError` where nothing is."""
    listing = list_folder(folder)
    if not listing.images:
        raise _nothing(folder, listing.left_out, listing)
    return listing


def _nothing(folder: Path, left: Sequence[LeftOut], listing: Listing) -> UserError:
    broken = [each for each in left if each.kind in (Kind.UNREADABLE, Kind.TOO_LARGE)]
    links = [each for each in left if each.kind is Kind.LINK]
    if broken:
        first = broken[0]
        return UserError(
            f"none of the {len(broken)} images in {folder} can be read: {first.name} ({first.why})"
        )
    if links:
        return UserError(
            f"there is no image in {folder}: links that lead out of it, such as {links[0].name}, "
            "are not followed"
        )
    kinds = " ".join(sorted(suffix[1:] for suffix in SUFFIXES))
    others = Account(other=listing.other, hidden=listing.hidden).lines()[1:]
    there = f"; {others[0].strip()}" if others else ""
    return UserError(f"there is no image in {folder} ({kinds}){there}")


def _sorted(pixels: Pixels, kept: Indices) -> tuple[Pixels, Indices]:
    """The rows that are filled, by their index."""
    rows = np.argsort(kept)
    if np.array_equal(rows, np.arange(len(pixels))):
        return pixels, kept
    return pixels[rows], kept[rows]


def _account(
    found: Sequence[Found],
    chosen: Sequence[Found],
    left: Sequence[LeftOut],
    listing: Listing,
) -> Account:
    """Each file once: one with pages of which some are used is used."""
    used = {each.file for each in chosen}
    files = {each.name: each.file for each in found}
    out = {files.get(each.name, each.name): each for each in reversed(left)}
    out = {name: replace(each, name=name) for name, each in out.items() if name not in used}
    return Account(
        used=len(used),
        left_out=tuple(out[name] for name in sorted(out)),
        other=dict(listing.other),
        hidden=listing.hidden,
        undrawn=len(set(files.values()) - used - out.keys()),
    )


def notes(chosen: Sequence[Found], how: Preparation, window: str) -> tuple[str, ...]:
    """What was done to pictures that cannot be taken as they are; `window`: how it came about."""
    found = []
    deep = sum(each.header.deep for each in chosen)
    if deep:
        found.append(f"{deep:,} of more than 8 bits: {window}; at most 256 levels are kept")
    reduced = sum(each.header.reduced for each in chosen)
    if reduced:
        found.append(f"{reduced:,} of more than 8 bits, of which their decoder gives the upper 8")
    stacks = Counter({each.file: each.header.pages for each in chosen if each.header.pages > 1})
    if stacks:
        which = "all are used" if how.pages == ALL else f"the {_ordinal(how.pages)} is used"
        others = "" if how.pages == ALL else " (--pages all uses every one)"
        found.append(
            f"{len(stacks):,} with several pages ({sum(stacks.values()):,} in all): {which}{others}"
        )
    moving = sum(each.header.moving for each in chosen)
    if moving:
        found.append(f"{moving:,} animated: the first frame is used")
    long = sum(each.header.is_long for each in chosen)
    if long and how.fit == "crop":
        found.append(
            f"{long:,} more than {LONG:g} times as long as wide, of which the middle square is "
            "kept (--fit pad or squash keeps all of it)"
        )
    return tuple(found)


def _ordinal(pages: str) -> str:
    return pages if not pages.isdecimal() else f"page {pages}"


def _labels(
    found: Sequence[Found], chosen: Sequence[Found]
) -> tuple[Indices | None, tuple[str, ...]]:
    """Labels of the chosen files by their first folder; None for a flat folder."""
    if "/" not in chosen[0].name:
        return None, ()
    folders = sorted({each.name.split("/")[0] for each in found})
    number = {name: i for i, name in enumerate(folders)}
    labels = np.array([number[each.name.split("/")[0]] for each in chosen], np.int64)
    return labels, tuple(map(class_name, folders))


def _most_common(sides: Sequence[int]) -> int:
    counts = Counter(sides)
    return min(counts, key=lambda side: (-counts[side], side))
