"""`covey run` on one machine: kills, Ctrl-C and `--resume`."""

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import recipes
from deploy.engines.simulate import simulate
from tests.builders.records import events
from tests.deploy.helpers import (
    CoveyRun,
    answers,
    find,
    processes,
    rounds_begun,
    same_results,
    threads_of_sites,
    until,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: it looks into /proc")

OPTIONS = {
    "dataset": "digits",
    "images": "160",
    "sites": "2",
    "rounds": "4",
    "local-epochs": "40",
    "device": "cpu",
}


def flags() -> list[str]:
    return [part for name, value in OPTIONS.items() for part in (f"--{name}", value)]


@pytest.fixture
def sockets() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cv-"))  # short: a socket's path has 100 bytes
    yield folder
    shutil.rmtree(folder)


def test_a_local_run_whose_processes_are_killed_and_interrupted_ends_with_the_same_bits(
    tmp_path: Path, sockets: Path
) -> None:
    """A trainer is killed while it trains, the ServerApp after round 2 of 4; Ctrl-C when it is back
    in round 3; `--resume`. What comes out is what the in-process engine gives undisturbed. BYOL,
    as its sites keep a state."""
    folder = tmp_path / "run"
    begin = ["fedbyol", *flags(), "--run-folder", str(folder)]
    run = CoveyRun(begin, sockets / "k", tmp_path / "first.txt")
    try:
        kill_a_trainer_while_it_trains(run, folder)
        run.waits_for(lambda: starts_of_round_three(folder) == 1)
        kill_the_server_app(run, folder)
        run.waits_for(lambda: starts_of_round_three(folder) == 2)
        interrupted = time.monotonic()
        run.interrupt()
        assert run.ends(patience=20) == 130
        assert time.monotonic() - interrupted < 15
        assert processes(str(folder), str(sockets)) == {}
        assert "covey: stopped" in run.text and f"covey run --resume {folder}" in run.text
        assert json.loads((folder / "run.json").read_text())["status"] == "running"
    finally:
        run.clear_away()
    again = CoveyRun(["--resume", str(folder)], sockets / "k", tmp_path / "second.txt")
    try:
        assert again.ends() == 0, again.text
    finally:
        again.clear_away()
    assert [event["round"] for event in events(folder, "round")] == [1, 2, 3, 4]
    simulate_undisturbed(tmp_path / "undisturbed" / "run")
    assert same_results(folder, tmp_path / "undisturbed" / "run")


def kill_a_trainer_while_it_trains(run: CoveyRun, folder: Path) -> None:
    log = folder / "logs" / "site-1-trainer.log"
    run.waits_for(lambda: answers(folder, "site-1", "hello") == 1)
    (trainer,) = find("client.resident", str(folder / "sites" / "site-1"))
    run.waits_for(lambda: rounds_begun(log.read_text()) == 1)
    os.kill(trainer, signal.SIGKILL)
    assert answers(folder, "site-1", "train") == 0
    run.waits_for(lambda: log.read_text().count(", ready") == 2)


def starts_of_round_three(folder: Path) -> int:
    """How many ServerApps have sent round 3 to a site: each is a run of its own for Flower."""
    log = (folder / "logs" / "site-0-connection.log").read_text()
    return len(set(re.findall(r"received: run (\d+), round 3:", log)))


def kill_the_server_app(run: CoveyRun, folder: Path) -> None:
    (server_app,) = find("flwr-serverapp", str(folder))
    os.kill(server_app, signal.SIGKILL)
    noticed = time.monotonic()
    until(lambda: "the ServerApp was killed" in run.text, patience=15)
    assert time.monotonic() - noticed < 15  # Flower's own heartbeat takes a minute


def simulate_undisturbed(folder: Path) -> None:
    with threads_of_sites(int(OPTIONS["sites"])):
        simulate(recipes.load("fedbyol").plan(OPTIONS), folder)
