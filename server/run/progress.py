"""What a run is doing right now: `progress.json`, for the line that the commands show.

It is replaced as answers come in and is gone when the run has ended. Nothing of a run's result is
here, so that it is not synced to the disk, and a disk that is full ends no run by it.
"""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

FILE = "progress.json"
JOIN, WAIT = "join", "wait"  # besides the kinds of exchange: sites are to come, or to come back
OFTEN = 0.2  # seconds: between two answers no more is written


@dataclass(frozen=True)
class Progress:
    """One moment of a run.

    `kind`: of the exchange that goes on, or `JOIN` or `WAIT`; `stage`: its name ("" before the
    first); `round` of the plan's `rounds` (0: none); `step` 1, 2, ... of a sequence (0: none);
    `answered` of the `asked` sites; `since`: when it began, in seconds since 1970.
    """

    kind: str
    stage: str = ""
    round: int = 0
    rounds: int = 0
    step: int = 0
    asked: int = 0
    answered: int = 0
    since: float = 0.0


class ProgressFile:
    """Keeps the `progress.json` of the run in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._now = Progress("")
        self._written = 0.0

    def begin(self, now: Progress) -> None:
        """Something has begun."""
        self._write(Progress(**{**asdict(now), "since": time.time()}))

    def count(self, answered: int, asked: int | None = None) -> None:
        """So many have answered (or are there, of so many) by now."""
        now = self._now
        asked = now.asked if asked is None else asked
        if (answered, asked) == (now.answered, now.asked):
            return
        self._now = Progress(**{**asdict(now), "answered": answered, "asked": asked})
        if answered >= asked or time.monotonic() - self._written >= OFTEN:
            self._write(self._now)

    def end(self) -> None:
        """The run is over."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self, now: Progress) -> None:
        self._now, self._written = now, time.monotonic()
        part = self._path.with_name(f".{FILE}.part")
        with suppress(OSError):
            part.write_text(json.dumps(asdict(now)), encoding="utf-8")
            part.replace(self._path)


def read_progress(folder: Path) -> Progress | None:
    """What the run in `folder` is doing; None where it has not begun, or has ended."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Progress(**{f.name: _typed(found[f.name], f.default) for f in fields(Progress)})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _typed(value: object, default: object) -> Any:
    """`value`, if it has the type of the field's default (text where it has none)."""
    wanted = type(default) if isinstance(default, int | float) else str
    if type(value) is not wanted:
        raise ValueError(f"{FILE}: {value!r} is no {wanted.__name__}")
    return value
