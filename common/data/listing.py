"""What lies in a folder: files that may be images, and all others, counted.

Nothing outside the folder is read: a link that leads out of it, or to a folder, is not followed.
Only names and sizes are looked at, and the first bytes of files whose names do not say what they
are, so that 100,000 files take a second or two.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from common.record.account import Kind, LeftOut
from common.utils.errors import UserError

SUFFIXES = frozenset(
    f".{name}"
    for names in (
        "png apng jpg jpeg jpe jfif mpo bmp dib webp tif tiff gif avif heic heif hif",
        "dcm dicom ima jp2 j2k jpx pgm ppm pbm pnm tga",
    )
    for name in names.split()
)
SYSTEM = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
SYSTEM_FOLDERS = frozenset({"__macosx", "$recycle.bin", "system volume information", "@eadir"})
NO_SUFFIX = "without a suffix"
LONGEST = 12  # characters of a suffix: what is longer is a name with a point in it
DICOM = (128, b"DICM")
STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
HEAD = 132  # bytes that say it
CHUNK = 1 << 20


@dataclass
class Listing:
    """`images`: name -> bytes of each file that may be one, sorted by name; `left_out` of them at
    once; `other` kinds by suffix; `hidden`: hidden files, and what systems leave behind."""

    images: dict[str, int] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    hidden: int = 0


def list_folder(folder: Path) -> Listing:
    """Everything in `folder`; `UserError` where it cannot be opened."""
    found = Listing()
    root = os.path.realpath(folder)
    try:
        _walk(str(folder), "", root, found)
    except OSError as error:
        raise UserError(f"{folder} cannot be opened: {error.strerror or error}") from None
    found.images = dict(sorted(found.images.items()))
    found.left_out.sort(key=lambda each: each.name)
    return found


def check_classes(folder: Path, names: Iterable[str]) -> None:
    """`UserError` where images lie both beside and inside subfolders: which are classes then?"""
    beside = {name: "/" not in name for name in names}
    if any(beside.values()) and not all(beside.values()):
        first = min(name for name, is_beside in beside.items() if is_beside)
        raise UserError(
            f"{folder} has images both beside its subfolders ({first}) and inside them: "
            "put all into subfolders (classes), or none"
        )


def _walk(folder: str, inside: str, root: str, found: Listing) -> None:
    """Add what lies in the folder whose name relative to the first is `inside`."""
    waiting = [(folder, inside)]
    while waiting:
        place, prefix = waiting.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if _is_hidden(entry.name, SYSTEM_FOLDERS):
                            found.hidden += _count(entry.path)
                        else:
                            waiting.append((entry.path, f"{prefix}{entry.name}/"))
                    else:
                        _add(entry, prefix + entry.name, root, found)
        except OSError as error:
            if not prefix:
                raise
            why = f"the folder cannot be opened: {error.strerror or error}"
            found.left_out.append(LeftOut(prefix, Kind.UNREADABLE, why))


def _add(entry: os.DirEntry[str], name: str, root: str, found: Listing) -> None:
    """Sort one file, link or whatever else it is into the listing."""
    if _is_hidden(entry.name, SYSTEM):
        found.hidden += 1
        return
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (of 100,000 files)
    if entry.is_symlink() and not _leads_inside(entry, root):
        if suffix in SUFFIXES or os.path.isdir(entry.path):  # noqa: PTH112
            found.left_out.append(LeftOut(name, Kind.LINK))
        else:
            found.other[_shown(suffix)] += 1
        return
    if suffix not in SUFFIXES and not (_says_nothing(suffix) and _starts_as_image(entry.path)):
        found.other[_shown(suffix)] += 1
        return
    try:
        facts = entry.stat()
    except OSError:
        found.left_out.append(LeftOut(name, Kind.UNREADABLE, "a link that leads nowhere"))
        return
    if not stat.S_ISREG(facts.st_mode):
        found.left_out.append(LeftOut(name, Kind.UNREADABLE, "it is no file"))
    elif not facts.st_size:
        found.left_out.append(LeftOut(name, Kind.UNREADABLE, "it is empty"))
    else:
        found.images[name] = facts.st_size


def _leads_inside(entry: os.DirEntry[str], root: str) -> bool:
    """Whether a link leads to a file, or to nothing, within the folder."""
    target = os.path.realpath(entry.path)
    return target.startswith(root.rstrip(os.sep) + os.sep) and not os.path.isdir(target)  # noqa: PTH112


def _is_hidden(name: str, of_systems: frozenset[str]) -> bool:
    return name.startswith(".") or name.lower() in of_systems


def _says_nothing(suffix: str) -> bool:
    """DICOM files are often called by a number alone: `IM0001`, `1.2.840.113619.2.55`."""
    return not suffix or suffix[1:].isdecimal()


def _starts_as_image(path: str) -> bool:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 (a pipe would not be opened)
            return False
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return is_dicom(head) or head.startswith(STARTS)


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is a DICOM file."""
    start, mark = DICOM
    return head[start : start + len(mark)] == mark


def _shown(suffix: str) -> str:
    return suffix if 1 < len(suffix) <= LONGEST else NO_SUFFIX


def _count(folder: str) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def copies(folder: Path, sizes: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Of files (name, bytes) those with the same content as an earlier one: name -> that one's.
    Only files of equal size are read."""
    alike: dict[int, list[str]] = {}
    for name, size in sizes:
        alike.setdefault(size, []).append(name)
    found: dict[str, str] = {}
    for names in alike.values():
        first: dict[bytes, str] = {}
        for name in names if len(names) > 1 else ():
            content = _digest(folder / name)
            if content and first.setdefault(content, name) != name:
                found[name] = first[content]
    return found


def _digest(path: Path) -> bytes:
    """Of the file's content; empty where it cannot be read, which is found out elsewhere."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError:
        return b""
    return digest.digest()
