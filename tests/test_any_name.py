"""No name ends a run: not of a file, a class, a folder, a run or a data set, whatever its bytes."""

import csv
import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from client.storage.assignments import FORMULA, write_assignments
from client.storage.ledger import enter
from client.validation import check_run_name, run_folder
from common.config import recipes
from common.data import load
from common.data.partition import Partition, make_partition
from common.protocol.messages import Reply
from common.record.reader import read_run
from common.utils.errors import UserError
from common.utils.names import label, original, place, portable, printable, write_out, written
from deploy.coordinator.run_list import RunLine, show_runs
from deploy.engines.runs import absolute_places
from deploy.engines.simulate import simulate
from deploy.identity.certificates import private_folder
from deploy.site.checks import describe
from deploy.site.left import read_ledger, show_ledger
from deploy.terminal.progress import show_event, show_result
from server.conversation.registration import is_name
from server.report import write_report
from server.run.folder import RunFolder
from tests.server.sample_run import SampleRun

HARD = [
    b"=cmd|' C calc'!A0",
    b"+1",
    b"-x",
    b"@x",
    b"caf\xe9",
    b"\xff\xfe",
    b"a\nb",
    b"a\r\x1b[2J\x07",
    "\u202egnp.exe".encode(),
    "\u2028\u0085\u00a0".encode(),
    "👩\u200d🔬".encode(),
    b"\\xff",
    b"\\\\x",
    b"[red]",
    b"[bold]",
    b"a,b\"'",
    b" ",
    b"x..",
    b"~",
    b"%s{0}",
    b"x" * 240,
    "漢".encode() * 80,
]
NAMES = (st.binary(min_size=1, max_size=60) | st.sampled_from(HARD)).filter(
    lambda name: not name.startswith(b".") and not set(b"/\0") & set(name)
)
TEXTS = st.text(max_size=40) | NAMES.map(os.fsdecode)
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@given(st.text(st.characters(), max_size=60) | NAMES.map(os.fsdecode))
@example("\\x41\\u0041\\U0010ffff\ud800")
def test_a_name_is_written_on_one_printable_line_and_read_back(name: str) -> None:
    assert written(name).isprintable() and printable(name).isprintable()
    assert original(written(name)) == name
    written(name).encode()


@given(TEXTS, st.integers(20, 200))
def test_a_label_has_a_length_and_tells_long_names_apart(name: str, most: int) -> None:
    assert is_name(label(name, most)) and len(label(name, most)) <= most
    assert label(name + "a" * most, most) != label(name + "a" * most + "b", most)


def images_in(folder: Path, names: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        with (folder / os.fsdecode(name + b".png")).open("wb") as file:
            Image.fromarray(np.full((8, 8), number, np.uint8)).save(file, "png")


@few
@given(
    st.lists(NAMES, min_size=1, max_size=4, unique=True),
    st.lists(NAMES, min_size=1, max_size=3, unique=True),
    NAMES,
)
@example(HARD[:11], HARD[11:14], b"caf\xe9 [x]")
@example(HARD[11:], HARD[:3], b"\n")
def test_images_of_any_name_in_classes_of_any_name_are_read_and_found_again(
    classes: list[bytes], files: list[bytes], where: bytes
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / os.fsdecode(where)
        for name in classes:
            images_in(folder / os.fsdecode(name), files)
        (folder / os.fsdecode(classes[0]) / "broken\x1b[2J.png").write_text("x")
        spec = absolute_places({"dataset": str(folder)})["dataset"]
        spec.encode()
        data = load(spec)
        assert len(data.images) == len(classes) * len(files)
        assert len(set(data.classes)) == len(classes) and all(map(is_name, data.classes))
        assert describe(data).isprintable()

        table = Path(scratch) / "assignments.csv"
        write_assignments(table, data.names, list(range(len(data.names))))
        with table.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        assert head == ["image", "cluster"] and len(rows) == len(data.names)
        assert len(table.read_text(encoding="utf-8").splitlines()) == len(rows) + 1
        for name, number in rows:
            assert name.isprintable() and not name.startswith(FORMULA)
            assert (place(spec) / original(name)).samefile(place(spec) / data.names[int(number)])

        parts = make_partition(data.labels, "iid", 1, 0)
        parts.save(folder / "partition.json")
        assert Partition.load(folder / "partition.json").hash == parts.hash


@given(st.lists(TEXTS, min_size=1, max_size=5))
@example(["", "a" * 300, "\x1b[2J", "\ud800"])
def test_classes_in_a_file_may_be_called_anything(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "data.npz"
        images = np.zeros((len(names), 4, 4), np.uint8)
        np.savez(path, images=images, labels=np.arange(len(names)), classes=np.array(names))
        assert all(map(is_name, load(str(path)).classes))


@few
@given(NAMES | st.sampled_from([b".hidden", b"private", b"logs", b"left.jsonl"]))
def test_every_site_takes_a_run_whatever_its_folder_is_called(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        run = RunFolder(Path(scratch) / os.fsdecode(name)).name
        home = Path(scratch) / "home"
        for other in ("private", "logs"):
            (home / other).mkdir(parents=True)
        (home / "left.jsonl").touch()
        check_run_name(run)
        assert run_folder(home, run).parent == home
        enter(home / "left.jsonl", run, Reply("hello", "north", 0), b"x")
        assert [entry["run"] for entry in read_ledger(home, run)] == [run]


ENCODED = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)  # as JSON brings them


@few
@given(ENCODED, ENCODED, ENCODED)
@example("[/x]", "[bold]\x1b[2J", "\u202e\0")
def test_reports_and_screens_take_any_name(first: str, second: str, third: str) -> None:
    sample = SampleRun(sites=2, clusters=3, classes=3)
    sample.run["plan"]["dataset"], sample.run["plan"]["partition"] = first, second
    sample.run["classes"] = [first, second, third]
    sample.run["sites"] = {second or "x": {"examples": 9, "device": first}}
    sample.events.append({"event": "warning", "round": 1, "text": third, "time": 0.0})
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    write_out(screen)
    console = Console(file=screen, width=80)
    with tempfile.TemporaryDirectory() as scratch:
        folder = sample.write(Path(scratch) / "run")
        write_report(folder).read_text(encoding="utf-8")
        show_result(console, read_run(folder))
        ledger = Path(scratch) / "left.jsonl"
        enter(ledger, third, Reply("hello", "north", 0), b"x")
        show_ledger(read_ledger(Path(scratch)), console)
    show_event(console, sample.typed[-1], 1)
    show_runs([RunLine(third, second, "running", 1, 2, "", None, None, None)], console)
    screen.flush()
    assert b"\x1b" not in screen.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_whole_run_with_hard_names_everywhere(tmp_path: Path) -> None:
    """Data set, classes, files, run: a state is kept and read, the report is written."""
    folder = tmp_path / os.fsdecode(b"jos\xe9 [x]")
    for name in (b"=cat", b"caf\xe9\n"):
        images_in(folder / os.fsdecode(name), [b"%d\xff" % i for i in range(8)])
    spec = absolute_places({"dataset": str(folder)})["dataset"]
    options = {"dataset": spec, "sites": 2, "rounds": 2, "partition": "iid", "min-count": 1}
    plan = recipes.load("fedema").plan({**options, "encoder": "small-convnet", "clusters": 2})
    run = tmp_path / os.fsdecode(b".r\xff")
    simulate(plan, run)
    simulate(plan, run)  # from its checkpoint
    assert json.loads((run / "run.json").read_text())["id"] == "run-.r\\xff"
    assert "caf\\xe9\\x0a" in (run / "report.html").read_text()
    (table,) = (run / "sites" / "site-0").glob("*/assignments.csv")
    names = [line.rpartition(",")[0] for line in table.read_text().splitlines()[1:]]
    assert names and all((place(spec) / original(name)).exists() for name in names)


def test_a_folder_that_flowers_programs_cannot_be_given_is_named_in_one_line(tmp_path) -> None:
    with pytest.raises(UserError, match=r"jos\\xe9: Flower takes no path that is not UTF-8"):
        private_folder(tmp_path / os.fsdecode(b"jos\xe9"))


def test_a_run_may_fail_for_a_file_of_any_name(tmp_path: Path) -> None:
    sample = SampleRun().write(tmp_path / "run")
    folder = RunFolder(sample)
    folder.begin(read_run(sample).run)
    folder.finish("failed", os.fsdecode(b"caf\xe9\x1b.safetensors: No space left on device"))
    assert read_run(sample).run.reason == "caf\\xe9\\x1b.safetensors: No space left on device"


def test_most_paths_stay_as_they_are(tmp_path: Path) -> None:
    for path in (str(tmp_path / "a b"), "C:\\data\\x41", "données"):
        assert portable(path) == path
    (tmp_path / "\\x41").mkdir()
    assert place(str(tmp_path / "\\x41")) == tmp_path / "\\x41"
