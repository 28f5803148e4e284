"""kill -9 while data are taken back over real processes: nothing is half forgotten."""

import os
import signal
import time

import pytest

from common.record.reader import has_run, read_settings
from common.utils.errors import UserError
from tests.builders.withdrawing import QUICK, joined, never_had, same
from tests.deploy.helpers import find

MOMENTS = {
    "the command is killed when the new folder is there": lambda folder: folder.exists(),
    "the command is killed when the run has begun": has_run,
    "the trainer of the site is killed when the run has begun": has_run,
    "the ServerApp is killed when the run has begun": has_run,
    "the command is killed when the model is there": lambda f: (f / "model.covey").exists(),
    "the command is killed when the run has finished": lambda folder: status(folder) == "finished",
}
PATIENCE = 300.0  # seconds


@pytest.fixture(scope="module")
def covey(tmp_path_factory):
    with joined(tmp_path_factory.mktemp("forgetting")) as commands:
        runs = commands.folder / "server" / "runs"
        where = ("--server", "server", "--run-folder", str(runs / "first"))
        commands.run("submit", *QUICK, *where)
        yield commands


def status(folder):
    try:
        return read_settings(folder).status if has_run(folder) else ""
    except UserError:
        return ""


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_same_command_goes_on_to_the_run_that_never_had_them(covey, moment) -> None:
    runs = covey.folder / "server" / "runs"
    number = len(list(runs.iterdir())) - 1
    before = runs / (f"first-without-{number}" if number else "first")
    after = runs / f"first-without-{number + 1}"
    gone = [str(image) for image in range(number + 1)]
    covey.run("client", "forget", gone[-1], "--folder", "covey-site-north", "--yes")
    forget = ("forget", before.name, "--server", "server", "--site", "north", "--yes")
    covey.start("forget", *forget)
    command = covey.started["forget"]
    until(lambda: MOMENTS[moment](after) or command.poll() is not None)
    if moment.startswith("the command"):
        command.kill()
    else:
        program, where = (
            ("client.resident", "covey-site-north")
            if "trainer" in moment
            else ("deploy.flower.serverapp", "server")
        )
        for pid in find(program, str(covey.folder / where)):
            os.kill(pid, signal.SIGKILL)
    command.wait(PATIENCE)
    assert read_settings(before).superseded is None or status(after) == "finished"
    if command.returncode:
        until(lambda: finished(covey, forget))
    assert read_settings(before).superseded == after.name
    assert after.name in (before / "report.html").read_text()
    assert same(after, never_had(covey.folder, after, {"north": gone}))
    hidden = [path.name for path in runs.iterdir() if path.name.startswith(".")]
    assert not hidden and len(list(runs.iterdir())) == number + 2


def finished(covey, forget) -> bool:
    """Give the same command again, as it says, until it has come to its end: until then it may say
    that the run is going on, or find its folder in use."""
    covey.start("again", *forget)
    again = covey.started["again"]
    again.wait(PATIENCE)
    said = covey.said("again")
    later = any(text in said for text in ("going on", "at work in it", "is in its place"))
    assert again.returncode == 0 or later, said
    return again.returncode == 0 or "is in its place" in said
