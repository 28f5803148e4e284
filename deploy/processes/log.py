"""The lines that are new in a process's log."""

from collections.abc import Iterator
from pathlib import Path

from common.utils.files import Tail
from deploy.processes.supervisor import TERMINAL_CODES

AT_ONCE = 2**20  # bytes: what is older is passed over


class LogFollower:
    """Reads a log that is appended to, or made anew."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path, at_once=AT_ONCE)

    def lines(self) -> Iterator[str]:
        """Whole lines since the last call, without colours."""
        for line in self._tail.lines():
            yield TERMINAL_CODES.sub("", line.decode(errors="replace")).rstrip()
