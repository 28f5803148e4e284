"""Images in every form that a model takes them in, brought to the shape of the run's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from common.config.preparation import Preparation
from common.data import DATASETS, ImageData, load
from common.data.decoding import WHOLE
from common.data.folder import read_folder
from common.data.npz import pixels
from common.data.picture import Deep, shaped
from common.data.pil import as_picture
from common.utils.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Pictures: TypeAlias = Union["Images", str, Path, NDArray[Any], "Tensor", "Image", Sequence["Image"]]
"""Images for a model: a folder's or an .npz file's path, a data set's name, an array or a tensor of
uint8, PIL images, or `Images` that were read before."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images of the shape that a model takes.

    `pixels`: (N, C, S, S) uint8; `names`: of the files, relative to the folder, or the index;
    `labels` (N,) index `classes`, or None; `unreadable`: files that were left out.
    """

    pixels: NDArray[np.uint8]
    names: tuple[str, ...]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)


def read(given: Pictures, how: Preparation, resize: bool) -> Images:
    """`given` as images of the channels and side of `how`; `UserError` says what does not fit.

    Photographs (a folder's, PIL's) are made square, scaled and made grey or RGB, as a site's are.
    Arrays, .npz files and data sets must have the shape; with `resize` they are
    scaled.
    """
    if isinstance(given, Images):
        return given
    if isinstance(given, str | Path):
        return _from_path(str(given), how, resize)
    if isinstance(given, Sequence) or hasattr(given, "convert"):
        images = given if isinstance(given, Sequence) else [given]
        return _from_pil(images, how)
    array = pixels(_array(given), "images", how.given_window)
    return _shaped(_numbered(array), how.channels, how.side, resize, "these")


def _from_path(spec: str, how: Preparation, resize: bool) -> Images:
    if spec not in DATASETS and Path(spec).is_dir():
        return _images(read_folder(Path(spec), how))
    return _shaped(
        _images(load(spec, how=Preparation(window=how.window))),
        how.channels,
        how.side,
        resize,
        f"those of {spec}",
    )


def _from_pil(given: Sequence[Any], how: Preparation) -> Images:
    for image in given:
        if not hasattr(image, "convert"):
            raise UserError(f"images: a list takes PIL images, not {type(image).__name__}")
    if not given:
        raise UserError("images: the list is empty")
    return _numbered(np.stack([_fitted(image, how) for image in given]))


def _fitted(image: "Image", how: Preparation) -> NDArray[np.uint8]:
    """A PIL image as (C, S, S). One of more than 8 bits needs the model's window, or is taken for
    one of 16."""
    picture = as_picture(image)
    if isinstance(picture, Deep):
        picture = picture.shown(how.given_window or WHOLE)
    return shaped(picture, how, grey=how.channels == 1)


def _array(given: Any) -> NDArray[Any]:
    """The array of a tensor, or the array itself; `UserError` for anything else."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise UserError(
            "images: expected a path, PIL images, or an array or tensor of uint8, "
            f"not {type(given).__name__}"
        )
    return array


def _shaped(images: Images, channels: int, side: int, resize: bool, whose: str) -> Images:
    """Images of the wanted shape; `UserError` for others, but for scaling what may be scaled."""
    _, found, found_side, _ = images.pixels.shape
    if found == channels and found_side != side and resize:
        data = ImageData(images.pixels, None, (), images.names, "natural").resized(side)
        return Images(data.images, images.names, images.labels, images.classes)
    if (found, found_side) != (channels, side):
        hint = ": resize=True scales them" if found == channels else ""
        raise UserError(
            f"the encoder takes {channels}×{side}×{side} images, "
            f"{whose} are {found}×{found_side}×{found_side}{hint}"
        )
    return images


def _images(data: ImageData) -> Images:
    return Images(data.images, data.names, data.labels, data.classes, data.unreadable)


def _numbered(array: NDArray[np.uint8]) -> Images:
    return Images(array, tuple(str(index) for index in range(len(array))))
