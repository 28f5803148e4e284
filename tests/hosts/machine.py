"""A person at a host: types commands in a folder, reads what they say, presses Ctrl-C."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.deploy.helpers import until
from tests.hosts.network import Host

PATIENCE = 240.0  # seconds: the machine may be busy
ACTIVATED = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
ROOT = str(Path(__file__).parents[2])  # this checkout's Covey, whichever is installed
ENVIRONMENT = os.environ | {
    "PATH": ACTIVATED,
    "PYTHONPATH": ROOT,
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "200",
}


class Typed:
    """A command that was typed, and goes on by itself; what it says goes to `output`."""

    def __init__(self, process: subprocess.Popen[str], output: Path, words: str) -> None:
        self.process = process
        self.words = words
        self._output = output

    @property
    def said(self) -> str:
        """Everything so far."""
        return self._output.read_text(encoding="utf-8")

    def until(self, text: str, patience: float = PATIENCE) -> None:
        """Wait until it says `text`; it must not end before."""

        def met() -> bool:
            if text in self.said:
                return True
            assert self.process.poll() is None, f"{self.words} ended: {self.said}"
            return False

        until(met, patience, lambda: f"{self.words} does not say {text!r}: {self.said[-2000:]}")

    def ends(self, patience: float = PATIENCE) -> str:
        """Wait for a good end; all it said."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.words} does not end: {self.said[-2000:]}") from None
        assert code == 0, f"{self.words} ended with {code}: {self.said[-2000:]}"
        return self.said

    def interrupt(self) -> str:
        """Press Ctrl-C; all it said."""
        self.process.send_signal(signal.SIGINT)
        return self.ends(30)


class Machine:
    """A host with a working folder of its own, where `covey` is installed."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self._outputs = folder.with_name(f"{folder.name}-screen")
        folder.mkdir(parents=True)
        self._outputs.mkdir()

    def start(self, *words: str) -> Typed:
        """Type a command."""
        output = self._outputs / f"{len(list(self._outputs.iterdir()))}.txt"
        with output.open("w", encoding="utf-8") as file:
            process = self.host.start(words, self.folder, ENVIRONMENT, file)
        return Typed(process, output, " ".join(words))

    def run(self, *words: str, patience: float = PATIENCE) -> str:
        """Type a command and wait for its good end; what it said."""
        return self.start(*words).ends(patience)
