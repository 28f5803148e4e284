"""Runs that Covey 0.1 left, before the record had a format, are read, reported, listed and resumed.

`first/` was written by that version: `covey simulate fedsimclr` with the encoder `pixels` on 60
digits, one run whole (a site failed in its second round), one stopped after its first round, one
stopped before its first checkpoint.
"""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file

from common.config import recipes
from common.config.options import Plan
from common.record.reader import EVENTS, SETTINGS, read_run
from common.stages import settle_parameters
from deploy.coordinator.folder import init
from deploy.coordinator.recorded import recorded_runs, taken
from deploy.coordinator.run_list import list_runs
from deploy.engines.runs import conclude, resumed
from deploy.engines.simulate import simulate
from deploy.evaluation.trained import load_trained
from server.report.settings import command
from server.run.folder import RunFolder

FIRST = Path(__file__).with_name("first")
RUNS = ("finished", "stopped-after-round-1", "stopped-in-round-1")


@pytest.fixture
def left(tmp_path: Path):
    def copy(name: str, into: Path = tmp_path) -> Path:
        return Path(shutil.copytree(FIRST / name, into / name))

    return copy


@pytest.mark.parametrize("name", RUNS)
def test_nothing_of_it_is_lost(name: str) -> None:
    lines = [json.loads(line) for line in (FIRST / name / EVENTS).read_text().splitlines()]
    record = read_run(FIRST / name)
    assert record.damaged == ()
    assert [event.event for event in record.events] == [line["event"] for line in lines]
    for event, line in zip(record.events, lines, strict=True):
        told = json.loads(event.to_json())
        del told["format"]
        figures = told.pop("figures", {})
        assert {**told, **figures} == line
    settings = json.loads((FIRST / name / SETTINGS).read_text())
    told = json.loads(record.run.to_json())
    assert (told.pop("format"), told.pop("settled")) == (1, [])
    assert record.run.settings() == Plan.from_json(json.dumps(settings.pop("plan")))
    assert record.run.settings().model_dump(mode="json", by_alias=True) == told.pop("plan")
    assert told == settings


def test_its_report_and_its_table_have_every_figure(left) -> None:
    folder = left("finished")
    console = Console(width=80, record=True)
    figures = conclude(folder, console)
    (stage,) = read_run(folder).stages
    assert figures["stages"][0]["nmi"] == stage.figures["nmi"]
    assert f"{stage.figures['nmi']:.3f}" in console.export_text()
    html = (folder / "report.html").read_text()
    assert f"{stage.figures['acc']:.3f}" in html and "Map of 60 embeddings" in html
    assert "round 2: no power" in html


def test_its_command_gives_its_plan() -> None:
    record = read_run(FIRST / "finished")
    words = shlex.split(" ".join(command(record)))
    assert words[:3] == ["covey", "simulate", "fedsimclr"]
    options = {name[2:]: text for name, text in zip(words[3::2], words[4::2], strict=True)}
    again = settle_parameters(recipes.load("fedsimclr").plan(options))
    assert again.model_dump() == record.run.settings().model_dump()


def test_an_option_that_has_come_since_is_at_its_default(left) -> None:
    """So that the run goes on as the same plan."""
    folder = left("stopped-after-round-1")
    document = json.loads((folder / SETTINGS).read_text())
    whole = read_run(folder).run.settings()
    del document["plan"]["stages"][0]["proximal"], document["plan"]["byzantine"]
    (folder / SETTINGS).write_text(json.dumps(document))
    assert read_run(folder).run.settings() == whole
    RunFolder(folder).begin(read_run(FIRST / folder.name).run)


def test_it_is_listed(left, tmp_path: Path) -> None:
    server = init(tmp_path / "server", "127.0.0.1:8443")
    for name in RUNS:
        left(name, server.runs)
    lines = {line.id: (line.status, line.rounds, line.planned) for line in list_runs(server)}
    assert lines == {
        "finished": ("finished", 2, 2),
        "stopped-after-round-1": ("stopped", 1, 2),
        "stopped-in-round-1": ("stopped", 1, 2),
    }
    took = taken(recorded_runs(server.runs))
    assert (took["site-0"].rounds, took["site-1"].rounds) == (4, 3)


def test_its_encoder_is_read_back(left) -> None:
    assert load_trained(left("finished"), "cpu").space == "encoder"


@pytest.mark.parametrize("name", ["stopped-after-round-1", "stopped-in-round-1"])
def test_it_goes_on_to_the_end_that_an_undisturbed_run_has(name: str, left, tmp_path: Path) -> None:
    folder = left(name)
    simulate(resumed(folder), folder)
    record = read_run(folder)
    assert [event.round for event in record.rounds] == [1, 2] and record.damaged == ()
    assert record.run.status == "finished"
    whole = tmp_path / "whole"
    simulate(read_run(FIRST / name).run.settings(), whole)
    one, other = (load_file(f / "checkpoint.safetensors") for f in (folder, whole))
    assert one.keys() == other.keys()  # the first round may be another machine's: not every bit
    for key in one.keys() - {"centroids/counts"}:
        np.testing.assert_allclose(one[key], other[key], rtol=1e-3, atol=1e-4)
