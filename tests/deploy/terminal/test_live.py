"""The line that says what a run is doing."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from deploy.terminal import live
from deploy.terminal.live import STARTING, Line, describe, duration, live_line
from server.run.progress import JOIN, Progress, ProgressFile
from tests.deploy.helpers import until

TRAINING = Progress("train", "representation", 3, 10, 0, 4, 2)


@pytest.mark.parametrize(
    ("now", "seconds", "line"),
    [
        (
            TRAINING,
            7.9,
            "representation: round 3 of 10, training · 2 of 4 sites have answered · 7 s",
        ),
        (
            Progress("lloyd", "clusters", step=12, asked=4, answered=4),
            61,
            "clusters: k-means, step 12 · 4 of 4 sites have answered · 1 min 1 s",
        ),
        (
            Progress(JOIN, asked=3, answered=1),
            3700,
            "waiting for sites to join · 1 of 3 sites are there · 1 h 1 min",
        ),
        (Progress("echo", asked=1), 0, "echo · 0 of 1 sites have answered · 0 s"),
        (None, 4, f"{STARTING} · 4 s"),
    ],
)
def test_a_moment_is_one_line(now, seconds: float, line: str) -> None:
    assert describe(now, seconds) == line
    assert len(line) <= 80


def test_seconds_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (0.4, 59.9, 60, 3599, 3600, 90_000)] == [
        *("0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "25 h 0 min")
    ]


def test_what_a_killed_run_has_left_is_not_believed(tmp_path: Path) -> None:
    ProgressFile(tmp_path).begin(TRAINING)
    line = Line(tmp_path)
    assert line().startswith(STARTING)
    again = ProgressFile(tmp_path)
    again.begin(Progress(JOIN, asked=3))
    assert line().startswith("waiting for sites to join · 0 of 3")
    again.end()
    assert line() == ""  # and not as if it were to begin


def test_in_a_file_a_line_stays_now_and_then_where_nothing_else_is_said(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(live, "NOW_AND_THEN", 0.05)
    ProgressFile(tmp_path).begin(TRAINING)
    console = Console(file=io.StringIO(), width=40)  # it is not folded
    with live_line(tmp_path, console):
        ProgressFile(tmp_path).begin(TRAINING)
        until(lambda: "have answered" in console.file.getvalue())
    (first, *_) = console.file.getvalue().splitlines()
    assert first.startswith(describe(TRAINING, 0).removesuffix("0 s"))
    said = len(console.file.getvalue())
    time.sleep(0.2)
    assert len(console.file.getvalue()) == said


def test_in_a_file_nothing_is_added_where_rounds_are_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(live, "NOW_AND_THEN", 0.3)
    ProgressFile(tmp_path).begin(TRAINING)
    console = Console(file=io.StringIO())
    with live_line(tmp_path, console):
        ProgressFile(tmp_path).begin(TRAINING)
        for _ in range(30):
            with (tmp_path / "metrics.jsonl").open("a") as events:
                events.write("{}\n")
            time.sleep(0.03)
    assert console.file.getvalue() == ""


def test_on_a_terminal_it_is_replaced_and_gone_at_the_end(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, _environ={"TERM": "xterm"})
    with live_line(tmp_path, console):
        ProgressFile(tmp_path).begin(TRAINING)
        until(lambda: "2 of 4 sites" in console.file.getvalue())
    assert console.file.getvalue().endswith("\x1b[2K")  # the line is erased
