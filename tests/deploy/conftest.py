"""Finished runs to evaluate, made once for all files."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from common.config import recipes
from deploy.engines.simulate import simulate

IMAGES, SITES = 240, 3
RUNS = {
    "plain": {},
    "projector": {"embedding": "projector"},
    "group": {"normalisation": "group"},
    "local": {"batchnorm": "local", "embedding": "projector"},
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a finished run of one of `RUNS`, made when it is first asked for."""
    parent = tmp_path_factory.mktemp("runs")

    def finished(name: str) -> Path:
        if not (parent / name).exists():
            simulate(
                recipes.load("fedsimclr").plan(
                    {
                        "images": IMAGES,
                        "sites": SITES,
                        "rounds": 2,
                        "local-epochs": 1,
                        "encoder": "small-convnet",
                        "batch-size": 32,
                        **RUNS[name],
                    }
                ),
                parent / name,
            )
        return parent / name

    return finished


@pytest.fixture
def copied(runs, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of such a run's folder, to be damaged."""

    def copy(name: str) -> Path:
        wanted = ("*.safetensors", "*.json", "metrics.jsonl")
        (tmp_path / name).mkdir()
        for pattern in wanted:
            for path in runs(name).glob(pattern):
                shutil.copy(path, tmp_path / name)
        return tmp_path / name

    return copy
