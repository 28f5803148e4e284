"""Two small simulated runs, made once for all files: with labels, and a folder without any."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import covey

SMALL = {"sites": 2, "rounds": 1, "local_epochs": 1, "batch_size": 32, "device": "cpu"}


def save_images(folder: Path, count: int, side: int = 8, mode: str = "RGB") -> Path:
    """A folder of PNG images of random pixels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shape = (count, side, side, 3) if mode == "RGB" else (count, side, side)
    for number, image in enumerate(rng.integers(0, 256, shape, np.uint8)):
        Image.fromarray(image).save(folder / f"{number:03}.png")
    return folder


@pytest.fixture(scope="session")
def labelled(tmp_path_factory) -> covey.Run:
    """On grey digits of side 8, with labels."""
    folder = tmp_path_factory.mktemp("covey") / "labelled"
    options = {**SMALL, "encoder": "small-convnet", "images": 240}
    return covey.simulate("fedsimclr", data="digits", folder=folder, **options)


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory) -> covey.Run:
    """On a folder of colour images of side 8 without subfolders: its clusters are of pixels."""
    folder = tmp_path_factory.mktemp("covey")
    images = save_images(folder / "images", 60)
    options = {"sites": 2, "partition": "iid", "clusters": 4, "device": "cpu"}
    return covey.simulate("fedkmeans-pixels", data=images, folder=folder / "run", **options)
