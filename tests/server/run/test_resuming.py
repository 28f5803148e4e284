"""A run that was stopped, and whose sites came back with something else, says what is not as it
was, or is refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.clientapp import ClientApp
from rich.console import Console

from client.app import build_app
from client.workbench import Workshop, pick_device
from common.config import recipes
from common.data import ImageData, load
from common.record.reader import has_run, read_run
from common.record.schema import Run, SiteFacts
from common.utils.errors import UserError
from deploy.engines.in_process import grid_of, open_site
from deploy.terminal.progress import show_event
from server.app import run
from server.conversation import roster
from server.report.settings import command
from server.run.folder import Checkpoint, RunFolder
from server.strategy import CoveyStrategy
from tests.builders.records import a_run
from tests.server.fleet import Fleet
from tests.server.sample_run import SampleRun

OPTIONS = {
    "sites": 2,
    "encoder": "pixels",
    "rounds": 3,
    "local-epochs": 1,
    "batch-size": 16,
    "parameters": "hidden=8 width=8",
    "device": "cpu",
}
DIGITS = load("digits", images=240, seed=0)
HERE = {"north": DIGITS.subset(np.arange(80)), "south": DIGITS.subset(np.arange(80, 160))}
OTHERS = DIGITS.subset(np.arange(160, 220))


class Killed(BaseException):
    """Nothing catches this, as nothing catches a kill."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(roster, "LATECOMERS", 0.1)


def go(folder: Path, sites: Mapping[str, ImageData], **options) -> Run:
    """Run, or go on, with those sites."""
    workshop = Workshop(pick_device("cpu"))
    opened = [open_site(n, d, folder / "sites" / n, workshop) for n, d in sites.items()]
    held = RunFolder(folder)
    asked = recipes.load("fedsimclr").plan({**OPTIONS, **options})
    run(grid_of(opened), held.plan() if has_run(folder) else asked, held, "server")
    return read_run(folder).run


def stopped(folder: Path, monkeypatch, after: int, **options) -> Run:
    """A run that was killed when its round `after` + 1 was over, and before that was kept."""
    original = CoveyStrategy.advance

    def dying(self, state):
        if state.round > after:
            raise Killed
        original(self, state)

    with monkeypatch.context() as patched:
        patched.setattr(CoveyStrategy, "advance", dying)
        with pytest.raises(Killed):
            go(folder, HERE, **options)
    return read_run(folder).run


def larger(data: ImageData) -> ImageData:
    return replace(data, images=data.images.repeat(2, axis=2).repeat(2, axis=3))


def of_classes(data: ImageData, classes: str) -> ImageData:
    return replace(data, labels=data.labels % len(classes), classes=tuple(classes))


def result(folder: Path) -> bytes:
    return (folder / "checkpoint.safetensors").read_bytes()


def told(folder: Path) -> str:
    """What the terminal shows of the resumption, which the report has as well."""
    (event,) = (e for e in read_run(folder).resumed if e.changes)
    console = Console(width=400, record=True)
    show_event(console, event, 3)
    assert event.text in console.export_text()
    return event.text


def test_before_the_first_checkpoint_the_record_is_written_anew(tmp_path, monkeypatch) -> None:
    """Other images, of another side and of other classes: what is recorded, and what comes out, is
    what it would be had the run begun with them."""
    began = stopped(tmp_path / "run", monkeypatch, after=0)
    assert (began.plan["clusters"], began.settled) == (10, ("clusters",))
    now = {name: of_classes(larger(data), "abc") for name, data in HERE.items()}
    now["south"] = now["south"].subset(np.arange(60))
    resumed = go(tmp_path / "run", now)
    fresh = go(tmp_path / "fresh" / "run", now)
    assert result(tmp_path / "run") == result(tmp_path / "fresh" / "run")
    same = {"created": "", "ended": ""}
    assert resumed.model_copy(update=same) == fresh.model_copy(update=same)
    assert resumed.created == began.created and resumed.plan["clusters"] == 3
    assert (resumed.sites["south"].side, resumed.sites["south"].examples) == (16, 60)
    records = [read_run(tmp_path / run) for run in ("run", "fresh/run")]
    assert command(records[0]) == command(records[1])
    assert [event.round for event in records[0].rounds] == [1, 2, 3]
    text = told(tmp_path / "run")
    assert text.startswith("begun anew, before the first round, and changed since it was stopped: ")
    assert "north: fingerprint of its images" in text and "side 8 → 16" in text
    assert "south: images 80 → 60" in text and "new classes: a, b, c" in text
    html = (tmp_path / "run" / "report.html").read_text()
    assert "images 80 → 60" in html and resumed.sites["south"].fingerprint in html


def test_after_it_other_images_are_said_by_name_and_recorded(tmp_path, monkeypatch) -> None:
    began = stopped(tmp_path / "run", monkeypatch, after=1)
    resumed = go(tmp_path / "run", {**HERE, "south": OTHERS})
    assert resumed.sites["north"] == began.sites["north"]
    assert resumed.sites["south"].fingerprint == OTHERS.fingerprint
    assert resumed.created == began.created and resumed.plan == began.plan
    (event,) = read_run(tmp_path / "run").resumed
    assert (event.round, event.anew) == (1, False)
    changes = {(c.site, c.what): (c.before, c.now) for c in event.changes}
    assert changes == {
        ("south", "images"): (80, 60),
        ("south", "fingerprint of its images"): (
            began.sites["south"].fingerprint,
            OTHERS.fingerprint,
        ),
    }
    assert told(tmp_path / "run").startswith("gone on with, and changed since it was stopped: ")
    assert "after round 1" in (tmp_path / "run" / "report.html").read_text()


def test_nothing_is_said_where_nothing_has_changed(tmp_path, monkeypatch) -> None:
    began = stopped(tmp_path / "run", monkeypatch, after=1)
    resumed = go(tmp_path / "run", HERE)
    (event,) = read_run(tmp_path / "run").resumed
    assert (event.changes, event.round) == ((), 1)
    ended = {"status": "running", "ended": None}
    assert resumed.model_copy(update=ended) == began
    go(tmp_path / "whole" / "run", HERE)
    assert result(tmp_path / "run") == result(tmp_path / "whole" / "run")


def test_after_it_images_of_another_side_are_refused_by_name(tmp_path, monkeypatch) -> None:
    began = stopped(tmp_path / "run", monkeypatch, after=1)
    with pytest.raises(UserError) as caught:
        go(tmp_path / "run", {name: larger(data) for name, data in HERE.items()})
    for name in HERE:
        assert f"{name} refused: its images are 1×16×16" in str(caught.value)
    assert "the federation's 1×8×8" in str(caught.value) and "\n" not in str(caught.value)
    assert read_run(tmp_path / "run").run == began
    go(tmp_path / "run", HERE)
    go(tmp_path / "whole" / "run", HERE)
    assert result(tmp_path / "run") == result(tmp_path / "whole" / "run")


@pytest.mark.parametrize(("classes", "why"), [("0123456789x", "new: x"), ("012345678", "gone: 9")])
def test_after_it_other_classes_than_clusters_were_settled_by_are_refused(
    classes: str, why: str, tmp_path, monkeypatch
) -> None:
    began = stopped(tmp_path / "run", monkeypatch, after=1)
    now = {name: of_classes(data, classes) for name, data in HERE.items()}
    with pytest.raises(UserError, match=f"its 10 clusters were settled by .*{why}") as caught:
        go(tmp_path / "run", now)
    assert "\n" not in str(caught.value)
    assert read_run(tmp_path / "run").run == began


def test_other_classes_are_only_said_where_the_number_of_clusters_was_given(
    tmp_path, monkeypatch
) -> None:
    began = stopped(tmp_path / "run", monkeypatch, after=1, clusters=7)
    assert began.settled == ()
    now = {name: of_classes(data, "0123456789x") for name, data in HERE.items()}
    resumed = go(tmp_path / "run", now)
    assert "new classes: x" in told(tmp_path / "run")
    assert resumed.classes[-1] == "x" and resumed.plan["clusters"] == 7


def test_a_site_that_is_not_back_yet_has_not_changed(tmp_path) -> None:
    """Neither have the classes that it alone may have."""
    before = RunFolder(tmp_path)
    whole = a_run(settled=("clusters",), classes=("a", "b"))
    before.begin(whole)
    before.save(Checkpoint(1, 0, {}))
    after = RunFolder(tmp_path)
    after.begin(a_run(sites={"north": whole.sites["north"]}, classes=("a",)))
    assert after.run == whole
    (event,) = read_run(tmp_path).resumed
    assert event.changes == ()


def test_software_and_device_that_changed_are_said(tmp_path) -> None:
    cpu = SiteFacts(examples=3, channels=1, side=8, device="cpu")
    RunFolder(tmp_path).begin(a_run(sites={"north": cpu}, versions={"torch": "2.6.0"}))
    gpu = cpu.model_copy(update={"device": "NVIDIA H100"})
    new = SiteFacts(examples=9)
    now = a_run(sites={"north": gpu, "west": new}, versions={"torch": "2.7.1"}, engine="server")
    RunFolder(tmp_path).begin(now)
    (event,) = read_run(tmp_path).resumed
    assert event.text.endswith(
        "north: device cpu → NVIDIA H100; west: new, with images 9; "
        "federation: engine in-process → server, torch 2.6.0 → 2.7.1"
    )


def test_a_run_with_another_plan_is_not_gone_on_with(tmp_path) -> None:
    RunFolder(tmp_path).begin(a_run(plan=SampleRun(seed=1).run["plan"]))
    with pytest.raises(UserError, match="it holds a run with another plan"):
        RunFolder(tmp_path).begin(a_run(plan=SampleRun(seed=2).run["plan"]))


def test_a_site_that_comes_back_with_other_images_while_the_run_goes_on_is_said(
    tmp_path, monkeypatch
) -> None:
    workshop = Workshop(pick_device("cpu"))
    here = {n: open_site(n, d, tmp_path / "sites" / n, workshop) for n, d in HERE.items()}

    def app_of(name: str) -> ClientApp:
        return build_app(lambda _context, record: here[name].handle(record))

    grid = Fleet({name: app_of(name) for name in HERE})
    original = RunFolder.log

    def log(folder, event):
        original(folder, event)
        if event.event == "round" and event.round == 1:
            grid.offline = {"south"}
        elif event.event == "round" and event.round == 2:
            here["south"] = open_site("south", OTHERS, tmp_path / "sites" / "south", workshop)
            grid.offline = set()

    monkeypatch.setattr(RunFolder, "log", log)
    asked = recipes.load("fedsimclr").plan({**OPTIONS, "rounds": 4, "quorum": 0.1})
    run(grid, asked, RunFolder(tmp_path / "run"), "server")
    record = read_run(tmp_path / "run")
    assert [event.answered for event in record.rounds][0::3] == [("north", "south")] * 2
    assert record.run.sites["south"].fingerprint == OTHERS.fingerprint
    (warning,) = (e.text for e in record.warnings if "as it was" in e.text)
    assert warning.startswith("site south is not as it was: images 80 → 60, fingerprint of its ")


def test_a_site_that_is_let_in_while_the_run_goes_on_is_recorded(tmp_path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(a_run(classes=("a",)))
    north = SiteFacts(examples=100, channels=1, side=8)
    assert folder.meet("north", north, ["a"]) == ""
    assert folder.meet("west", SiteFacts(examples=5), ["a", "b"]) == ""  # a newcomer
    fewer = north.model_copy(update={"examples": 90})
    assert folder.meet("north", fewer, ["a", "b"]) == "images 100 → 90"
    recorded = read_run(tmp_path).run
    assert recorded.sites["north"] == fewer and recorded.sites["west"].examples == 5
    assert recorded.classes == ("a", "b")
