"""The lines that are new in a process's log."""

from collections.abc import Iterator
from pathlib import Path

from deploy.processes import TERMINAL_CODES

AT_ONCE = 2**20  # bytes: what is older is passed over


class LogFollower:
    """Reads a log that is appended to, or made anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> Iterator[str]:
        """Whole lines since the last call, without colours."""
        try:
            end = self._path.stat().st_size
        except FileNotFoundError:
            return
        self._offset = 0 if end < self._offset else max(self._offset, end - AT_ONCE)
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield TERMINAL_CODES.sub("", line.decode(errors="replace")).rstrip()
