"""A last stage held again from the encoder that a run has trained."""

import json
from pathlib import Path

import pytest

from common.config import recipes
from common.utils.errors import UserError
from deploy.engines.simulate import simulate
from tests.benchmarks.scripts import script

closings = script("closings")
DIGITS = {"dataset": "digits", "images": 240, "sites": 3, "clusters": 10, "batch-size": 32}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "covey"
    simulate(recipes.load("covey").plan(DIGITS | {"rounds": "1"}), folder)
    return folder


def test_with_the_same_numbers_it_ends_as_the_run_did_to_the_bit(finished: Path) -> None:
    run = closings.closing(finished, "")
    assert run.keys() == {"agreement", "nmi", "acc"}
    assert closings.closing(finished, "time=1") == run != closings.closing(finished, "time=3")


def test_every_set_of_numbers_has_a_line(finished: Path, tmp_path: Path, capsys) -> None:
    closings.main([finished], "|nearest=3 time=2", json=tmp_path / "figures.json")
    assert "as it was" in capsys.readouterr().out
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert [row["parameters"] for row in rows] == ["as it was", "nearest=3 time=2"]


def test_a_run_that_cannot_be_closed_again_is_refused_in_one_line(tmp_path: Path) -> None:
    simulate(recipes.load("fedsimclr").plan(DIGITS | {"rounds": "1"}), tmp_path / "trains")
    with pytest.raises(UserError, match="its last stage trains"):
        closings.closing(tmp_path / "trains", "time=2")
    with pytest.raises(UserError, match="holds no run"):
        closings.closing(tmp_path / "nothing", "time=2")
