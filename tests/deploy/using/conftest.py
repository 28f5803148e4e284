"""A finished run on grey digits of side 8, and a folder of the same pictures in a larger size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.config import recipes
from common.data import load
from deploy.engines.simulate import simulate
from deploy.using.model import Opened, open_model

OPTIONS = {"images": 240, "sites": 2, "rounds": 1, "local-epochs": 1, "batch-size": 32}
MANY = 60


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """Its folder."""
    folder = tmp_path_factory.mktemp("using") / "run"
    plan = recipes.load("fedsimclr").plan({**OPTIONS, "encoder": "small-convnet", "device": "cpu"})
    simulate(plan, folder)
    return folder


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    """A copy of its `model.covey`, to be named."""
    path = tmp_path / "mine.covey"
    path.write_bytes((run / "model.covey").read_bytes())
    return path


@pytest.fixture(scope="session")
def opened(run: Path) -> Opened:
    return open_model(run, "cpu")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """60 PNGs of side 32 in two folders, one with a name that spreadsheets take for a formula, and
    a file that is none."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, image in enumerate(load("digits").images[:MANY, 0]):
        below = folder / ("even" if number % 2 == 0 else "odd")
        below.mkdir(exist_ok=True)
        name = "=1+1.png" if number == 0 else f"{number:03}.png"
        Image.fromarray(np.kron(image, np.ones((4, 4), np.uint8))).save(below / name)
    (folder / "odd" / "broken.png").write_bytes(b"no picture")
    return folder
