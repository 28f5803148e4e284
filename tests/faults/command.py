"""A `covey` command as somebody types it, and waiting for what it says and does."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.deploy import helpers
from tests.deploy.helpers import ROOT

PATIENCE = 900.0  # seconds: the machine may be busy

until = partial(helpers.until, patience=PATIENCE)


class Command:
    """One `covey` command in a process of its own, its output in a file."""

    def __init__(self, home: Path, name: str, arguments: list[str], prefix: list[str]) -> None:
        self.out = home / f"{name}.out"
        self._start = self.out.stat().st_size if self.out.exists() else 0
        with self.out.open("ab") as out:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "deploy.cli.main", *arguments],
                cwd=home,
                env=os.environ
                | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self.out.read_bytes()[self._start :].decode()

    def says(self, text: str, times: int = 1) -> None:
        """Wait for it, while the command is running."""

        def met() -> bool:
            found = self.said.count(text) >= times
            assert found or self.process.poll() is None, self.said
            return found

        until(met, what=lambda: f"{text!r} not in: {self.said[-2000:]}")

    def ends(self) -> int:
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
