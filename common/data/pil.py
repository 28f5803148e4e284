"""Files that Pillow reads: photographs, PNG, TIFF, and HEIC where `pillow-heif` is installed.

Pillow keeps the upper 8 of 16 bits of colour. Here nothing is lost: the same bytes are unpacked
twice, once for the upper and once for the lower ones. Where a decoder gives 8 bits whatever the
file has, the header says so (`common/data/levels.py`).
"""

import ctypes
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.data.levels import in_planes, is_deep_ppm, is_reduced, of_ppm, tag
from common.data.picture import Deep, Header, UnusableError, orientation_of, upright
from common.record.account import Kind
from common.utils.names import printable

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = frozenset({"L", "LA", "La", "1", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
STACKS = frozenset({"TIFF"})
ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
LONGEST = 100  # characters of what PIL says
PHOTOMETRIC, SUBFILE, SAMPLE_FORMAT = 262, 254, 339  # TIFF's tags
SIGNED = 2
THUMBNAIL = 1
HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
UNKNOWN = "it is no image, or of a kind that is not read"
INSTALL = "pip install 'covey[photos]'"

OTHER_ORDER = re.compile(r";(16|32)B")  # how Pillow calls numbers whose first byte is the upper one
MAPS = Path("/proc/self/maps")  # files in this process's memory

_ONE = threading.RLock()


@contextmanager
def quietly() -> Iterator[None]:
    """Inside, Pillow neither warns nor refuses large files: who reads a folder says both himself.
    One at a time: both are the whole process's."""
    from PIL import Image  # noqa: PLC0415 (the command line starts without it)

    _silence_libtiff()
    with _ONE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = bound


@cache
def _silence_libtiff() -> None:
    """Let Pillow's libtiff not print on this process's standard error what it thinks of a file."""
    from PIL import _imaging  # noqa: F401, PLC0415 (it brings the library)

    with suppress(OSError, AttributeError):
        mapped = MAPS.read_text(encoding="utf-8", errors="replace").splitlines()
        # The sixth field is the path, which may have spaces.
        for path in sorted({line.split(maxsplit=5)[-1] for line in mapped if "libtiff" in line}):
            library = ctypes.CDLL(path)
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)


def read_header(path: Path) -> Header:
    """What the file is; `UnusableError` where it is no picture."""
    with _opened(path) as image:
        return Header(
            *image.size,
            grey=image.mode in GREY,
            deep=_is_deep(image),
            pages=len(_pages(image)) if image.format in STACKS else 1,
            moving=image.format in ANIMATED and bool(getattr(image, "is_animated", False)),
            reduced=not _is_deep(image) and is_reduced(image, path),
        )


def read_picture(path: Path, page: int, side: int) -> "Image | Deep":
    """Picture `page` (from 0) of the file, upright: of 8 bits as Pillow's, decoded at no less than
    `side` where that is cheaper (JPEG; 0: whole); deeper ones as numbers."""
    with _opened(path) as image:
        if page:
            image.seek(_pages(image)[page])
        if side:
            image.draft(None, (side, side))
        return as_picture(image)


def as_picture(image: "Image") -> "Image | Deep":
    """A picture that Pillow has opened, upright: itself, or the numbers of one deeper than 8
    bits."""
    deep = _deep(image) if _is_deep(image) else None  # before PNG's EXIF is asked for: that decodes
    image.load()
    turned = orientation_of(image) if image.format != "TIFF" else 1  # of TIFF Pillow turns it
    return upright(image, turned) if deep is None else replace(deep, orientation=turned)


@contextmanager
def _opened(path: Path) -> Iterator["Image"]:
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

    with named(path), path.open("rb") as file:
        head = file.read(12)
        if head[4:8] == b"ftyp" and head[8:12] in HEIF and not _heif():
            raise UnusableError(f"HEIC: needs pillow-heif ({INSTALL})")
        file.seek(0)
        try:
            opened = Image.open(file)
        except UnidentifiedImageError:
            raise UnusableError(UNKNOWN) from None
        with opened as image:
            if in_planes(image):  # whose bytes Pillow takes for others
                raise UnusableError(UNKNOWN)
            yield image


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Whatever a reader raises at a damaged file, in words that do not name the path."""
    try:
        yield
    except UnusableError:
        raise
    except MemoryError:
        raise UnusableError("it does not fit into memory", Kind.TOO_LARGE) from None
    except Exception as error:  # of PIL's plugins: OSError, SyntaxError, struct.error, zlib.error…
        raise UnusableError(reason(error, path)) from None


def reason(error: Exception, path: Path) -> str:
    """What an error says, as half a sentence without the file's name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    said = printable((str(error).splitlines() or [""])[0].replace(str(path), "it"))
    if "truncated" in said or isinstance(error, EOFError):
        return "it is cut"
    return said[:LONGEST] or f"it is damaged ({type(error).__name__})"


@cache
def _heif() -> bool:
    """Whether HEIC can be read: Pillow has the plugin from now on."""
    try:
        import pillow_heif  # noqa: PLC0415 (the extra `photos`)
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _pages(image: Any) -> list[int]:
    """The frames that are pictures: of a TIFF those that are no smaller copy of another."""
    frames = int(getattr(image, "n_frames", 1))
    if frames == 1:
        return [0]
    found = []
    for frame in range(frames):
        image.seek(frame)
        if not int(image.tag_v2.get(SUBFILE, 0)) & THUMBNAIL:
            found.append(frame)
    image.seek(0)
    return found or [0]


def _raw_modes(image: Any) -> set[str]:
    """How the decoder unpacks the file's bytes, such as RGB;16B."""
    found = set()
    for tile in getattr(image, "tile", ()):
        args = tile[3]
        mode = args[0] if isinstance(args, tuple) and args else args
        found |= {mode} if isinstance(mode, str) else set()
    return found


def _is_deep(image: Any) -> bool:
    if image.mode.startswith(("I", "F")):
        return True
    if image.mode == "L":
        return tag(image, SAMPLE_FORMAT) == SIGNED
    if image.mode not in ("RGB", "RGBA"):
        return False
    return is_deep_ppm(image) or any(";16" in mode for mode in _raw_modes(image))


def _deep(image: Any) -> Deep:
    if image.mode in ("RGB", "RGBA"):
        return Deep(of_ppm(image)) if is_deep_ppm(image) else _deep_colour(image)
    inverted = image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == 0
    _take_the_machines_own_order(image)
    values = np.asarray(image)
    if image.mode == "L":
        values = values.view(np.int8)
    elif image.mode == "I" and image.format == "TIFF" and tag(image, SAMPLE_FORMAT) != SIGNED:
        values = values.astype(np.int32).view(np.uint32)  # unsigned where nothing else is said
    return Deep(values, inverted=inverted and image.mode != "L")


def _take_the_machines_own_order(image: Any) -> None:
    """What libtiff has unpacked has it already, whatever the file's is."""
    image.tile = [
        tile._replace(args=(OTHER_ORDER.sub(r";\1N", tile.args[0]), *tile.args[1:]))
        if tile.codec_name == "libtiff"
        else tile
        for tile in image.tile
    ]


def _deep_colour(image: Any) -> Deep:
    """Both bytes of each number, by unpacking twice."""
    (mode,) = _raw_modes(image)
    if mode == "LA;16B":  # PNG's grey with alpha: as four bytes
        both = _unpacked(image, "RGBA").astype(np.uint16)
        values = both[..., 0] << 8 | both[..., 1]
        return Deep(values, both[..., 2].astype(np.uint8))
    stem, order = mode[:-1], mode[-1]
    order = sys.byteorder[0].upper() if order == "N" else order  # libtiff gives the machine's own
    file, frame = image.fp, image.tell()
    upper = _unpacked(image, stem + order)
    with _again(file, frame) as second:
        lower = _unpacked(second, stem + {"L": "B", "B": "L"}[order])
    values = upper[..., :3].astype(np.uint16) << 8 | lower[..., :3]
    alpha = np.ascontiguousarray(upper[..., 3]) if upper.shape[-1] == 4 else None
    return Deep(values, alpha)


@contextmanager
def _again(file: Any, frame: int) -> Iterator[Any]:
    from PIL import Image  # noqa: PLC0415

    file.seek(0)
    with Image.open(file) as image:
        if frame:
            image.seek(frame)
        yield image


def _unpacked(image: Any, mode: str) -> NDArray[np.uint8]:
    """The picture with its bytes unpacked as Pillow's raw `mode` does."""
    image.tile = [
        tile._replace(args=mode if isinstance(tile.args, str) else (mode, *tile.args[1:]))
        for tile in image.tile
    ]
    image._mode = mode.partition(";")[0]
    image.load()
    return np.asarray(image)
