"""DICOM files, where `pydicom` is installed (the extra `photos`).

Of a file's tags those are read that say how its numbers become a picture: none of them is kept, and
none leaves this file.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config.preparation import Window
from common.data.picture import Deep, Header, UnusableError
from common.data.pil import INSTALL, named

SUFFIXES = (".dcm", ".dicom", ".ima")
EIGHT = 8  # bits, up to which numbers are shown as they are


def read_header(path: Path) -> Header:
    """What the file is; `UnusableError` where it has no picture."""
    with named(path):
        tags = _read(path, pixels=False)
        height, width = int(tags.get("Rows", 0) or 0), int(tags.get("Columns", 0) or 0)
        if not height or not width:
            raise UnusableError("a DICOM file without a picture")
        return Header(
            width,
            height,
            grey=_is_grey(tags),
            deep=_is_deep(tags),
            pages=int(tags.get("NumberOfFrames", 1) or 1),
        )


def read_picture(path: Path, page: int, _side: int) -> Any:
    """Frame `page` (from 0): its numbers after the rescaling that the file states, or Pillow's
    image where it has 8 bits."""
    from PIL import Image  # noqa: PLC0415
    from pydicom.pixels.processing import apply_color_lut  # noqa: PLC0415
    from pydicom.pixels.utils import pixel_array  # noqa: PLC0415

    with named(path):
        tags = _read(path, pixels=True)
        stored = pixel_array(tags, index=page)
        if tags.get("PhotometricInterpretation") == "PALETTE COLOR":
            stored = apply_color_lut(stored, tags)
            if stored.dtype != np.uint8:
                return Deep(stored)
        elif _is_grey(tags):
            inverted = _is_inverted(tags)
            if not _is_deep(tags):
                shown = stored.astype(np.uint8)
                return Image.fromarray(255 - shown if inverted else shown)
            return Deep(_values(tags, stored, page), inverted=inverted, own=_window(tags, page))
        elif stored.dtype != np.uint8:
            return Deep(stored)
        return Image.fromarray(np.ascontiguousarray(stored))


def _read(path: Path, *, pixels: bool) -> Any:
    if find_spec("pydicom") is None:
        raise UnusableError(f"DICOM: needs pydicom ({INSTALL})")
    import logging  # noqa: PLC0415

    from pydicom import dcmread  # noqa: PLC0415
    from pydicom.errors import InvalidDicomError  # noqa: PLC0415

    logging.getLogger("pydicom").disabled = True  # what is wrong is said in our words
    try:
        return dcmread(path, stop_before_pixels=not pixels, force=path.suffix.lower() in SUFFIXES)
    except InvalidDicomError:
        raise UnusableError("it is no DICOM file") from None


def _is_grey(tags: Any) -> bool:
    colours = int(tags.get("SamplesPerPixel", 1) or 1) > 1
    return not colours and bool(tags.get("PhotometricInterpretation") != "PALETTE COLOR")


def _is_inverted(tags: Any) -> bool:
    low_is_white = bool(tags.get("PhotometricInterpretation") == "MONOCHROME1")
    return low_is_white or bool(tags.get("PresentationLUTShape") == "INVERSE")


def _is_deep(tags: Any) -> bool:
    """Whether its numbers are anything but 0 to 255 as they stand."""
    if not _is_grey(tags):
        return int(tags.get("BitsAllocated", EIGHT)) > EIGHT
    rescaled = any(name in tags for name in ("ModalityLUTSequence", "FloatPixelData"))
    slope, intercept = tags.get("RescaleSlope", 1) or 1, tags.get("RescaleIntercept", 0) or 0
    few = int(tags.get("BitsStored", 16)) == EIGHT and not int(tags.get("PixelRepresentation", 0))
    return rescaled or not few or (float(slope), float(intercept)) != (1.0, 0.0)


def _values(tags: Any, stored: NDArray[Any], page: int) -> NDArray[Any]:
    """The numbers that the file's own table, or slope and intercept, make of what is stored; where
    nothing was measured, NaN."""
    from pydicom.pixels.processing import apply_modality_lut  # noqa: PLC0415

    values = apply_modality_lut(stored, tags)
    group = _of_frame(tags, page, "PixelValueTransformationSequence")
    if "RescaleSlope" not in tags and group is not None:
        slope, intercept = group.get("RescaleSlope", 1), group.get("RescaleIntercept", 0)
        values = stored * float(slope) + float(intercept)
    padding = tags.get("PixelPaddingValue")
    if padding is None or isinstance(padding, bytes):
        return np.asarray(values)
    limit = tags.get("PixelPaddingRangeLimit", padding)
    low, high = sorted((int(padding), int(limit)))
    values = np.asarray(values, dtype=np.float64)
    values[(stored >= low) & (stored <= high)] = np.nan
    return values


def _window(tags: Any, page: int) -> Window | None:
    """The file's first window, as its linear function has it (PS3.3 C.11.2.1.2)."""
    group = tags
    if "WindowCenter" not in tags:
        group = _of_frame(tags, page, "FrameVOILUTSequence") or {}
    centre, width = _first(group.get("WindowCenter")), _first(group.get("WindowWidth"))
    if centre is None or width is None or width <= 1:
        return None
    low = centre - 0.5 - (width - 1) / 2
    return Window(low, low + width - 1)


def _first(value: Any) -> float | None:
    try:
        several = not isinstance(value, (str, float, int)) and hasattr(value, "__len__")
        return float(value[0] if several else value)
    except (TypeError, ValueError, IndexError):
        return None


def _of_frame(tags: Any, page: int, name: str) -> Any:
    """What an enhanced file says of a frame, or of all of them; None where it says nothing."""
    own = tags.get("PerFrameFunctionalGroupsSequence") or ()
    shared = tags.get("SharedFunctionalGroupsSequence") or ()
    for group in (*own[page : page + 1], *shared[:1]):
        if group.get(name):
            return group.get(name)[0]
    return None
