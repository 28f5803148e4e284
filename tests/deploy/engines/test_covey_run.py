"""`covey run`, whole: separate processes, TLS, authentication; what it leaves, what it survives."""

import io
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
from rich.console import Console
from safetensors.numpy import load_file

from common.config import recipes
from deploy.engines import run_locally as engine
from deploy.engines.federation import SiteSpec
from deploy.engines.runs import run_config
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

pytestmark = [
    pytest.mark.federation,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

SMALL = {
    "dataset": "digits",
    "images": "160",
    "sites": "2",
    "rounds": "1",
    "local-epochs": "1",
    "device": "cpu",
}
POISONED = "site-1"


def flags(options: dict[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", value)]


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cv-"))  # short: a socket's path has 100 bytes
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, sockets: Path
) -> Iterator[tuple[CoveyRun, Path]]:
    """Two runs at once, in a path with a space: one by the command, and one of which a site's
    trainer sends NaN."""
    home = tmp_path_factory.mktemp("two runs")
    files = ["--run-folder", str(home / "plain"), "--json", str(home / "plain.json")]
    plain = CoveyRun(["fedsimclr", *flags(SMALL), *files], sockets / "p", home / "plain.txt")
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(engine, "local_site", poisoning(engine.local_site))
            run_poisoned(home / "poisoned")
        plain.ends()
        yield plain, home
    finally:
        plain.clear_away()


def poisoning(original):
    script = str(Path(__file__).with_name("poisoned_trainer.py"))

    def site(*arguments) -> SiteSpec:
        spec = original(*arguments)
        if spec.name != POISONED:
            return spec
        python, _, _, *rest = spec.trainer_command
        return SiteSpec(spec.name, (python, script, *rest))

    return site


def run_poisoned(folder: Path) -> None:
    folder.mkdir()
    config = run_config("fedsimclr", SMALL, **{"run-folder": str(folder), "engine": "processes"})
    plan = recipes.load("fedsimclr").plan(SMALL)
    engine.run_locally(plan, config, folder, Console(file=io.StringIO()))


def test_a_run_ends_with_a_table_a_report_an_encoder_and_centroids(runs) -> None:
    plain, home = runs
    assert plain.process.returncode == 0, plain.text
    for word in ("1/1", "ACC", "NMI", "representation", "report.html"):
        assert word in plain.text
    assert (home / "plain" / "report.html").stat().st_size > 10_000
    assert load_file(home / "plain" / "centroids.safetensors")["points"].shape == (10, 256)
    assert load_file(home / "plain" / "encoder.safetensors")
    (figures,) = json.loads((home / "plain.json").read_text())["stages"]
    (stage,) = events(home / "plain", "stage")
    assert figures["acc"] == stage["figures"]["acc"] and 0 < figures["nmi"] <= 1
    assert json.loads((home / "plain" / "run.json").read_text())["status"] == "finished"


def test_its_logs_have_no_traceback(runs) -> None:
    _, home = runs
    logs = {path.name: path.read_text() for path in (home / "plain" / "logs").iterdir()}
    assert {"superlink.log", "superexec.log", "site-1-connection.log", "site-1-trainer.log"} <= {
        *logs
    }
    assert [name for name, text in logs.items() if "Traceback" in text] == []
    assert ", ready" in logs["site-1-trainer.log"]


def test_nothing_of_it_goes_on_and_no_socket_or_key_is_left(runs, sockets: Path) -> None:
    _, home = runs
    assert processes(str(home), str(sockets)) == {}
    assert list((sockets / "p").iterdir()) == []
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {path.name for path in (home / "plain" / "federation").iterdir()} == {"bundle"}
    assert [path for path in files if path.suffix in (".key", ".secret", ".db", ".crt")] == []
    assert [path for path in files if b"PRIVATE KEY" in path.read_bytes()] == []


def test_a_site_that_sends_nan_is_refused_by_name_and_the_round_goes_on(runs) -> None:
    folder = runs[1] / "poisoned"
    (trained,) = events(folder, "round")
    assert list(trained["refused"]) == [POISONED]
    assert "has NaN or infinite values" in trained["refused"][POISONED]
    assert trained["answered"] == ["site-0"]
    assert any(f"{POISONED} refused" in event["text"] for event in events(folder, "warning"))
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    assert all(
        abs(array).max() < 1e6 for array in load_file(folder / "encoder.safetensors").values()
    )


def test_a_run_whose_processes_are_killed_and_interrupted_ends_with_the_same_bits(
    tmp_path: Path, sockets: Path
) -> None:
    """A trainer killed while it trains, the ServerApp killed after round 2 of 4, Ctrl-C when it is
    back in round 3, `--resume`: what comes out is what the in-process engine gives undisturbed.
    BYOL, as its sites keep a state."""
    options = {**SMALL, "rounds": "4", "local-epochs": "40"}
    folder = tmp_path / "run"
    begin = ["fedbyol", *flags(options), "--run-folder", str(folder)]
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
    simulate_undisturbed(options, tmp_path / "undisturbed" / "run")
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


def simulate_undisturbed(options: dict[str, str], folder: Path) -> None:
    with threads_of_sites(int(options["sites"])):
        simulate(recipes.load("fedbyol").plan(options), folder)
