"""A `covey run` in a process of its own, watched from outside as an operator would."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from common.utils.threads import threads
from deploy.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240.0  # seconds: the machine may be busy
RESULTS = ("encoder.safetensors", "centroids.safetensors")


def until(
    condition: Callable[[], object],
    patience: float = PATIENCE,
    what: Callable[[], str] = lambda: "waited in vain",
) -> None:
    """Wait for it; after `patience` seconds an AssertionError that says `what` is so by then."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


class CoveyRun:
    """`covey run ARGUMENTS`, with its output in a file and its sockets under `sockets`."""

    def __init__(self, arguments: list[str], sockets: Path, output: Path) -> None:
        sockets.mkdir(exist_ok=True)
        self.output = output
        variables = {"TMPDIR": str(sockets), "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli.main", "run", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=output.parent,
                env=os.environ | variables,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def waits_for(self, condition: Callable[[], object]) -> None:
        """Wait for it while the run is going on."""

        def met() -> bool:
            assert self.process.poll() is None, self.text
            return bool(condition())

        until(met)

    def ends(self, patience: float = PATIENCE) -> int:
        return self.process.wait(patience)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def clear_away(self) -> None:
        """Whatever happened in a test: nothing of it goes on."""
        self.process.kill()
        self.process.wait()


def answers(folder: Path, site: str, kind: str) -> int:
    """How many answers of this kind have left the site."""
    path = folder / "sites" / site / "left.jsonl"
    return path.read_text().count(f'"kind": "{kind}"') if path.exists() else 0


def rounds_begun(log: str) -> int:
    """How many rounds of training a trainer has begun, by its log."""
    return log.count(" train: asked with ")


def processes(*words: str) -> dict[int, str]:
    """Process id -> command line of the living processes that have any of the words in their
    command line, environment or working directory; this process is not counted."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            about = command + (entry / "environ").read_bytes().decode(errors="replace")
            about += str((entry / "cwd").readlink())
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and int(entry.name) != os.getpid() and any(word in about for word in words):
            found[int(entry.name)] = command
    return found


def find(program: str, *words: str) -> list[int]:
    """The processes of `processes` that run this program themselves, not as a guardian."""
    found = processes(*words)
    return [pid for pid, line in found.items() if program in line and "child.py" not in line]


def threads_of_sites(sites: int) -> AbstractContextManager[None]:
    """Inside, PyTorch computes with as many threads as each of so many sites of `covey run`."""
    return threads(max(1, (os.cpu_count() or 1) // sites))


def same_results(a: Path, b: Path) -> bool:
    """The encoder and the centroids of two runs are equal to the bit."""
    for name in RESULTS:
        assert load_file(a / name)
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in RESULTS)


def covey(capsys, *arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of one `covey` call in this process."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["covey", *arguments])
        patch.setenv("COLUMNS", "80")
        cli.main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err
