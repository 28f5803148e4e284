"""The log: what an engineer reads. What is for the user is printed by the command line.

Every process calls `set_up` once. A service (trainer, front, ServerApp) writes to its standard
error, which its supervisor keeps in a file of bounded size; a command shows nothing of it unless it
is told to (`--verbose`). Python's warnings and other packages' words go the same way, never to a
user's screen. `kept_in` writes it to a file, too.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

from common.utils.names import printable, write_out

VARIABLE = "COVEY_LOG"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
OWN = ("client", "common", "covey", "deploy", "server")  # our packages; others from warnings on
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LARGEST = 4 * 2**20  # bytes of a log's file
OLD = ".1"  # at the end of the name of what came before it


class _Lines(logging.Formatter):
    """One line for each entry, and its traceback below it, with nothing that a screen obeys."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        record.message = printable(record.message)
        return super().formatMessage(record)


class _Shown(logging.StreamHandler[TextIO]):
    """Marks what `set_up` has set up."""


class _Kept(RotatingFileHandler):
    """A file of bounded size; where the disk is full, the work goes on without it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say nothing."""


def set_up(screen: TextIO | None = None, level: str = "") -> None:
    """Send the log of this process to `screen` (None: nowhere), from `level` on, or from what
    `COVEY_LOG` says, or from "info" on. May be called again."""
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Shown)]:
        root.removeHandler(old)
    handler = _Shown(screen)
    handler.setFormatter(_Lines(FORMAT))
    if screen is None:
        handler.setLevel(logging.CRITICAL + 1)
    else:
        write_out(screen)
    root.addHandler(handler)
    wanted = level or os.environ.get(VARIABLE, "").lower()
    for name in OWN:
        logging.getLogger(name).setLevel(LEVELS.get(wanted, logging.INFO))
    logging.captureWarnings(False)  # who has taken them meanwhile may be gone
    logging.captureWarnings(True)
    if wanted and wanted not in LEVELS:
        known = ", ".join(LEVELS)
        logging.getLogger(__name__).warning("%s=%s is none of %s", VARIABLE, wanted, known)


@contextmanager
def kept_in(path: Path) -> Iterator[None]:
    """Also write the log of this process to the file `path`; older entries move to `path` + OLD."""
    handler = _Kept(
        path,
        maxBytes=LARGEST,
        backupCount=1,
        encoding="utf-8",
        errors="backslashreplace",
        delay=True,
    )
    handler.setFormatter(_Lines(FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with suppress(OSError):  # the disk is full: its last entries are lost
            handler.close()


def begin_anew(path: Path) -> None:
    """Before a process begins a log: what the last one wrote moves to `path` + OLD."""
    if path.exists():
        path.replace(path.with_name(path.name + OLD))


def keep_short(path: Path, largest: int = LARGEST) -> None:
    """Where a file that processes append to has more than `largest` bytes, move its content to
    `path` + OLD and go on with an empty one. What is written in between is lost."""
    try:
        if path.stat().st_size > largest:
            with path.open("r+b") as file, path.with_name(path.name + OLD).open("wb") as old:
                file.seek(-largest, os.SEEK_END)
                old.write(file.read(largest))
                file.truncate(0)
    except OSError:
        return  # it is gone, or the disk is full: the log is not worth a failure
