"""The log has levels and files of bounded size, and nothing of it reaches a user's screen."""

import io
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from common.utils import logs
from tests.common.utils.test_files import room_for
from tests.deploy.helpers import ROOT, covey

OURS, OTHERS = logging.getLogger("client.trainer"), logging.getLogger("somebody.else")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A process sets its log up once; a test leaves none behind."""
    root = logging.getLogger()
    before, levels = list(root.handlers), {n: logging.getLogger(n).level for n in logs.OWN}
    yield
    root.handlers[:] = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(False)


def shown(level: str = "") -> str:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    logs.set_up(screen, level)
    OURS.debug("one")
    OURS.info("two")
    OURS.warning("three")
    OTHERS.info("four")
    OTHERS.warning("five")
    warnings.warn("six", RuntimeWarning, stacklevel=1)
    screen.flush()
    return screen.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", "one two three five six"),
        ("", "two three five six"),
        ("warning", "three five six"),
        ("error", "five six"),
    ],
)
def test_our_own_words_have_a_level_and_others_speak_from_warnings_on(level, expected) -> None:
    said = shown(level)
    asked = ["one", "two", "three", "four", "five", "six"]
    words = [word for word in asked if re.search(rf"\b{word}\b", said)]  # a path may hold "clone"
    assert " ".join(words) == expected
    assert "WARNING somebody.else: five" in said


def test_the_environment_says_the_level(monkeypatch) -> None:
    monkeypatch.setenv(logs.VARIABLE, "WARNING")
    assert "two" not in shown()
    monkeypatch.setenv(logs.VARIABLE, "loud")
    assert "COVEY_LOG=loud is none of debug, info, warning, error" in shown()


def test_what_others_have_a_say_in_cannot_command_a_screen() -> None:
    logging.getLogger().handlers.clear()  # pytest's keep what its workers cannot send each other
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    logs.set_up(screen)
    OURS.info("caf\udce9 %s", "\x1b[2J\n2026-01-01 ERROR forged")
    screen.flush()
    said = screen.buffer.getvalue()  # type: ignore[attr-defined]
    assert said.count(b"\n") == 1 and b"caf\\xe9 \\x1b[2J\\x0a2026" in said


def test_a_command_shows_nothing_of_it_and_a_traceback_is_kept(tmp_path, capsys) -> None:
    logs.set_up()
    with logs.kept_in(tmp_path / "run.log"):
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            OURS.exception("it ended")
    OURS.error("after it")
    assert capsys.readouterr() == ("", "")
    kept = (tmp_path / "run.log").read_text()
    assert "ERROR client.trainer: it ended" in kept and "RuntimeError: broken" in kept
    assert "after it" not in kept


def test_a_kept_log_is_bounded_and_a_full_disk_ends_nothing(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(logs, "LARGEST", 5_000)
    logs.set_up()
    with logs.kept_in(tmp_path / "run.log"):
        for number in range(500):
            OURS.info("entry %d", number)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {"run.log", "run.log.1"} and max(sizes.values()) <= 5_000
    assert "entry 499" in (tmp_path / "run.log").read_text()
    with room_for(0), logs.kept_in(tmp_path / "full.log"):
        OURS.info("no room")
    assert capsys.readouterr() == ("", "")


def test_a_file_that_a_process_appends_to_is_kept_short(tmp_path) -> None:
    log = tmp_path / "site.log"
    with log.open("ab", buffering=0) as file:
        for number in range(400):
            file.write(b"line %03d\n" % number)
        logs.keep_short(log, 1000)
        file.write(b"after it\n")
        assert log.read_bytes() == b"after it\n"
        old = (tmp_path / "site.log.1").read_bytes()
        assert len(old) == 1000 and old.endswith(b"line 399\n")
        logs.keep_short(log, 1000)
        assert log.read_bytes() == b"after it\n"
    logs.keep_short(tmp_path / "none.log")


SMALL = ("--images", "60", "--sites", "2", "--rounds", "1", "--local-epochs", "1")


def test_a_run_keeps_its_log_beside_its_figures(tmp_path, capsys) -> None:
    run = tmp_path / "run"
    options = ("--dataset", "digits", "--encoder", "small-convnet", "--partition", "iid")
    code, said, complaints = covey(
        capsys, "simulate", "fedsimclr", *SMALL, *options, "--run-folder", str(run)
    )
    assert code == 0 and not complaints and " INFO " not in said
    log = (run / "run.log").read_text()
    assert "INFO server.strategy: representation: simclr, 1 rounds" in log
    assert "round 1 train: asked 2 sites" in log and "round 1 train: site-1 answered" in log
    assert "run run round 1 train: answered with" in log  # the sites are in this process, too
    (folder,) = (run / "sites").glob("site-0")
    line = json.loads((folder / "left.jsonl").read_text().splitlines()[1])
    assert (line["run"], line["round"], line["kind"]) == ("run", 1, "train")


def test_a_command_shows_its_log_where_it_is_asked_to(tmp_path) -> None:
    np.savez(tmp_path / "data.npz", images=np.zeros((20, 8, 8), np.uint8))
    options = ("--dataset", "data.npz", "--encoder", "small-convnet", "--partition", "iid")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "deploy.cli.main",
            "-v",
            "simulate",
            "fedsimclr",
            *options,
            *SMALL[2:],
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert " DEBUG server.conversation.inquiry: round 1 train: asked site-0" in done.stderr
    assert "DEBUG" not in done.stdout
