"""A run that has ended, for what is taken back from it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.engines.simulate import simulate
from tests.builders.forgetting import planned


@pytest.fixture
def finished(tmp_path: Path) -> Callable[..., Path]:
    def made(recipe: str = "covey-exact", **options: object) -> Path:
        folder = tmp_path / "runs" / "before"
        simulate(planned(recipe, **options), folder)
        return folder

    return made
