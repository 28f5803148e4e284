"""Data sets, as whole arrays in memory.

`load` takes a known name (`DATASETS`), a folder of images or an .npz, and gives `ImageData`. To add
a data set, add an entry to `common/data/known.py` and its licence to `docs/researcher/data.md`.
Importing this imports no torch.
"""

import os
from pathlib import Path

from common.config.preparation import Preparation
from common.data.decoding import Watch
from common.data.folder import read_folder
from common.data.images import ImageData, Kind, draw
from common.data.known import DATASETS, Dataset, data_root
from common.data.listing import list_folder
from common.data.npz import names_labels, read_npz
from common.utils.errors import UserError, unknown
from common.utils.names import place

__all__ = [
    "DATASETS",
    "Dataset",
    "ImageData",
    "Kind",
    "Preparation",
    "data_root",
    "has_labels",
    "load",
    "load_test",
]


def load(
    spec: str,
    *,
    images: int = 0,
    seed: int = 0,
    side: int = 0,
    how: Preparation | None = None,
    cache: Path | None = None,
    watch: Watch | None = None,
) -> ImageData:
    """The images of `spec`: of known sets the training split.

    `images` > 0 draws that many without replacement, by `seed`. `side` > 0 is the side in pixels
    that the images are given; 0 leaves them (a folder: see `read_folder`). `how`: what else is done
    to a folder's files, with its side and channels in the place of `side`; `cache`, `watch`: see
    `read_folder`. A known name goes before a folder of that name: write `./mnist` for the folder. A
    path may be given as it is, or as `common.utils.names.written` writes it. `UserError` where
    there is no such data, fewer images than asked for, or a damaged file.
    """
    how = how or Preparation(side=side)
    if spec not in DATASETS and place(spec).is_dir():
        return read_folder(place(spec), how, images=images, seed=seed, cache=cache, watch=watch)
    data = _read(spec, how, test=False)
    if data is None:
        raise UserError(f"{spec} has no training images: need images, or x_train")
    if images:
        data = data.subset(draw(len(data.images), images, seed, spec))
    return data.shaped(how.channels, how.side)


def load_test(spec: str, *, side: int = 0, how: Preparation | None = None) -> ImageData | None:
    """The test split of `spec`, with `side` or `how` as in `load`; None where there is none (a
    folder, `digits`, a plain .npz)."""
    how = how or Preparation(side=side)
    if spec not in DATASETS and place(spec).is_dir():
        return None
    data = _read(spec, how, test=True)
    return None if data is None else data.shaped(how.channels, how.side)


def has_labels(spec: str) -> bool:
    """Whether the images of `spec` have labels, found out without reading them; of data that is not
    there True: what is wrong with it is said elsewhere."""
    path = place(spec)
    if spec in DATASETS or not path.exists():
        return True
    if path.is_dir():
        return any("/" in name for name in list_folder(path).images)
    return path.suffix != ".npz" or names_labels(path)


def _read(spec: str, how: Preparation, *, test: bool) -> ImageData | None:
    if spec in DATASETS:
        return DATASETS[spec].read(test)
    path = place(spec)
    if path.suffix == ".npz":
        return read_npz(path, test=test, how=how)
    if path.exists():
        raise UserError(f"{spec} is neither a folder of images nor an .npz file")
    if os.sep in spec:
        raise UserError(f"there is no file or folder {spec}")
    raise UserError(f"{unknown('data set', spec, DATASETS)} (no file or folder has that name)")
