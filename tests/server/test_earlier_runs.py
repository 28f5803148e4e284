"""A run that an earlier version has begun: resumed, evaluated, reported on with today's names."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from common.config import earlier, recipes
from common.config.options import Plan
from deploy.engines.simulate import simulate
from deploy.evaluation.pooled import Asked, evaluate_run
from server.report import write_report
from server.run.folder import RunFolder
from server.strategy import CoveyStrategy

SMALL = {
    "dataset": "digits",
    "images": 150,
    "sites": 2,
    "encoder": "small-convnet",
    "batch-size": 50,
    "rounds": 2,
    "device": "cpu",
}
RESULTS = ("encoder.safetensors", "projector.safetensors", "centroids.safetensors")


class Killed(BaseException):
    """Nothing catches this, as nothing catches a kill."""


def make_older(folder: Path) -> None:
    """Write `run.json` anew, as 0.1 did: what is solved was called an objective."""
    older = {
        new: old for table in (earlier.SOLVERS, earlier.OBJECTIVES) for old, new in table.items()
    }
    run = json.loads((folder / "run.json").read_text())
    run.pop("format")
    for stage in run["plan"]["stages"]:
        name = stage["objective"] or stage.pop("solver")
        stage.pop("solver", None)
        stage["objective"] = older.get(name, name)
    (folder / "run.json").write_text(json.dumps(run))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return recipes.load("covey").plan(SMALL)


def test_it_goes_on_to_the_same_bits_and_is_evaluated_and_reported_on(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(plan, tmp_path / "whole")
    original = CoveyStrategy._ask

    def dying(self, grid, kind, number, **more):
        if (kind, number) == ("train", 2):
            raise Killed
        return original(self, grid, kind, number, **more)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(CoveyStrategy, "_ask", dying)
        simulate(plan, tmp_path / "run")
    folder = tmp_path / "run"
    make_older(folder)
    assert '"objective": "landmarks"' in (folder / "run.json").read_text()
    simulate(RunFolder(folder).plan(), folder)
    for name in RESULTS:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    make_older(folder)
    figures = evaluate_run(folder, Asked(protocols=("clustering", "knn")), Console(quiet=True))
    assert 0 < figures["centroids"]["acc"] <= 1 and figures["clustering_space"] == "projector"
    html = write_report(folder).read_text(encoding="utf-8")
    assert "landmark-spectral" in html and "spectral-contrastive" in html
    assert "--rounds 0,2,0" in html and "--objective" not in html and "--solver" not in html
