"""Images and labels from an .npz file: plain arrays only, nothing that could run code.

Keys: `images` (with `labels` and `classes` where there are any), or `x_train`, `y_train`, `x_test`,
`y_test`. Images are (N, H, W), (N, H, W, C) or (N, C, H, W), square, with 1 or 3 channels, as
integers 0 to 255.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from common.config.preparation import AUTO, Preparation, Window
from common.data.images import ImageData, Kind, Labels, Pixels, class_name
from common.utils.errors import UserError

# What zipfile, zlib and numpy raise on files that are cut, overwritten or something else.
DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    MemoryError,
    BadZipFile,
    zlib.error,
    struct.error,
)


def read_npz(
    path: Path,
    *,
    test: bool = False,
    classes: tuple[str, ...] = (),
    kind: Kind = "natural",
    how: Preparation = AUTO,
) -> ImageData | None:
    """The images of `path`, or with `test` its test split; None where it has none.

    `classes` names the labels 0, 1, ... of a known data set; without it the file's own `classes`
    do, or else the labels' values are the names. `how`: its window is that of values that are not
    uint8. `UserError` names the file and what is wrong.
    """
    with _open(path) as file:
        plain = "images" in file
        key = "x_test" if test else "images" if plain else "x_train"
        if key not in file:
            return None
        stored = file[key]
        images = pixels(stored, f"{path}: {key}", how.given_window)
        windowed = stored.dtype != np.uint8 and how.given_window is not None
        prepared = Preparation(window=how.window if windowed else "")
        own = "labels" if plain and not test else "y_test" if test else "y_train"
        values = _label_values(file[own], path, own, len(images)) if own in file else None
        if values is None:
            return ImageData(images, None, (), _numbers(len(images)), kind, prepared=prepared)
        if not classes and "classes" in file:
            classes = tuple(class_name(str(c)) for c in np.asarray(file["classes"]).ravel())
        if not classes:
            # Both splits name the classes, so that a label means the same in either.
            every = [file[name] for name in ("labels", "y_train", "y_test") if name in file]
            names = np.unique(np.concatenate([np.ravel(part) for part in every]))
            classes = tuple(class_name(str(name)) for name in names)
            labels = np.searchsorted(names, values).astype(np.int64)
        else:
            labels = _index(values, len(classes), path, own)
    names_of = _numbers(len(images))
    return ImageData(images, labels, classes, names_of, kind, prepared=prepared)


@contextmanager
def _open(path: Path) -> Iterator[NpzFile]:
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, NpzFile):
            raise ValueError("one bare array")
        with file:
            yield file
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(
            f"{path} is cut or damaged, or not an .npz of plain arrays ({reason})"
        ) from None


def stored_images(path: Path) -> NDArray[Any]:
    """The images that a run uses, as they lie in the file."""
    with _open(path) as file:
        return np.asarray(file["images" if "images" in file else "x_train"])


def names_labels(path: Path) -> bool:
    """Whether the file has labels of the images that a run uses."""
    with _open(path) as file:
        return ("labels" if "images" in file else "y_train") in file


def pixels(array: NDArray[Any], what: str, window: Window | None = None) -> Pixels:
    """(N, C, S, S) uint8 from any of the layouts; values of other types than uint8 through the
    `window`, where there is one. `UserError` calls the array `what`."""
    if not isinstance(array, np.ndarray):  # a member of the archive that is no array at all
        raise ValueError(f"{what} is not an array")
    shape = array.shape
    if window is not None and array.dtype.kind in "iuf" and array.dtype != np.uint8:
        array = window.apply(array)
    if array.dtype.kind not in "iu" or (array.size and not 0 <= array.min() <= array.max() <= 255):
        raise UserError(
            f"{what} must be integers from 0 to 255, not {array.dtype}"
            " (--window LOW:HIGH makes others such)"
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or array.shape[2] != array.shape[3]:
        raise UserError(
            f"{what} has shape {shape}; expected square images as "
            "(N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels"
        )
    if not len(array):
        raise UserError(f"{what} has no images")
    return np.ascontiguousarray(array, dtype=np.uint8)


def _label_values(array: NDArray[Any], path: Path, key: str, images: int) -> NDArray[Any]:
    if array.size != images:
        raise UserError(f"{path}: {array.size} labels in {key} for {images} images")
    if array.dtype.kind not in "iuU" or (array.dtype.kind == "i" and array.min() < 0):
        raise UserError(f"{path}: {key} must be integers from 0, or text, not {array.dtype}")
    return array.ravel()


def _index(values: NDArray[Any], classes: int, path: Path, key: str) -> Labels:
    if values.dtype.kind not in "iu" or values.max() >= classes:
        raise UserError(f"{path}: {key} must be integers from 0 to {classes - 1}")
    return values.astype(np.int64)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(index) for index in range(count))
