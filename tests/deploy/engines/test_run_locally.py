"""Following a run: a killed ServerApp is seen at once and started again, a failed one is not."""

import io
import re
import threading
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from common.config import recipes
from common.record.reader import read_settings
from common.record.writer import write_settings
from common.utils.errors import UserError
from common.utils.lock import locked
from deploy.cli.main import app
from deploy.engines import run_locally
from deploy.engines.run_locally import RESTARTS, RunFailed
from deploy.terminal import live
from server.run.folder import LOCK, RunFolder
from server.run.progress import Progress, ProgressFile
from tests.builders.records import a_run
from tests.deploy.helpers import until

PLAN = recipes.load("fedsimclr").plan({"rounds": 2})


class Federation:
    """Starts "ServerApps" that each do what the next of `deeds` says while they hold the lock."""

    def __init__(self, folder: Path, *deeds) -> None:
        self.folder, self.deeds = folder, list(deeds)
        self.submitted, self.stopped, self.said = 0, [], ("running", "")

    def submit(self, _bundle: Path) -> int:
        begun = threading.Event()

        def server_app() -> None:
            with locked(self.folder / LOCK):
                begun.set()
                self.deeds.pop(0)(self)
                ended.wait(0.15)

        ended = threading.Event()
        threading.Thread(target=server_app).start()
        begun.wait()
        self.submitted += 1
        return self.submitted

    def status(self, _run_id: int) -> tuple[str, str]:
        return self.said

    def stop_run(self, run_id: int) -> None:
        self.stopped.append(run_id)


def killed(_federation: Federation) -> None:
    """Ends without a word."""


def finishing(federation: Federation) -> None:
    write_run(federation.folder, status="finished")


def write_run(folder: Path, **facts) -> None:
    write_settings(folder, a_run(plan=PLAN.model_dump(mode="json", by_alias=True), **facts))


def carry_through(federation: Federation, shown: io.StringIO | None = None) -> str:
    shown = shown or io.StringIO()
    console = Console(file=shown, width=500)
    bundle = Path("bundle")
    first = federation.submit(bundle)
    run_locally._carry_through(federation, first, bundle, PLAN, federation.folder, console)
    return shown.getvalue()


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(run_locally, "LOOK", 0.01)
    monkeypatch.setattr(run_locally, "FAREWELL", 0.1)


def test_who_follows_a_run_is_told_what_it_waits_for(tmp_path: Path, monkeypatch) -> None:
    """`covey submit` and `covey run` follow alike."""
    monkeypatch.setattr(live, "NOW_AND_THEN", 0.02)
    shown = io.StringIO()
    told = re.compile(
        "representation: round 1 of 2, training · 3 of 4 sites have answered · [0-9]+ s\n"
    )

    def training(federation: Federation) -> None:
        progress = ProgressFile(federation.folder)
        now = Progress("train", "representation", 1, 2, 0, 4, 3)
        # What was there before somebody followed is not believed: it is written again and again.
        until(lambda: progress.begin(now) or told.search(shown.getvalue()))
        progress.end()
        finishing(federation)

    assert told.search(carry_through(Federation(tmp_path, training), shown))


def test_a_killed_server_app_is_started_again_and_the_run_goes_on(tmp_path: Path) -> None:
    write_run(tmp_path)
    federation = Federation(tmp_path, killed, killed, finishing)
    assert carry_through(federation).count("the ServerApp was killed") == 2
    assert federation.submitted == 3
    assert federation.stopped == [1, 2]


def test_after_three_restarts_one_line_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    write_run(folder)
    federation = Federation(folder, *[killed] * (RESTARTS + 1))
    with pytest.raises(RunFailed) as failure:
        carry_through(federation)
    assert str(failure.value) == (
        f"the ServerApp was killed (logs: {folder / 'logs'}); "
        f"`covey run --resume '{folder}'` goes on from the last round"
    )


def test_a_server_app_that_told_flower_why_it_ended_is_not_started_again(tmp_path: Path) -> None:
    def failing(federation: Federation) -> None:
        said = "ServerApp failed with exception: the checkpoint is damaged"
        federation.said = ("finished:failed", said)

    federation = Federation(tmp_path, failing)
    with pytest.raises(
        RunFailed, match=r"^the ServerApp ended: the checkpoint is damaged \(logs: "
    ):
        carry_through(federation)
    assert federation.submitted == 1


def test_a_run_that_failed_goes_on_without_its_old_reason(tmp_path: Path) -> None:
    write_run(tmp_path, status="failed", reason="the quorum was missed", ended="yesterday")
    RunFolder(tmp_path).reopen()
    run = read_settings(tmp_path)
    assert (run.status, run.reason, run.ended) == ("running", None, None)


def test_a_folder_in_which_a_run_is_going_on_is_not_taken_by_a_second(tmp_path: Path) -> None:
    write_run(tmp_path)
    with locked(tmp_path / LOCK):
        result = CliRunner().invoke(app, ["run", "--resume", str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == f"{tmp_path}: another process is at work in it"
