"""A lock file that says whether a process is at work in a folder.

The operating system lets go of it when the process ends, however it ends: there is nothing stale
after a kill, and a process id that is used again cannot mislead.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.utils.errors import UserError

PAUSE = 0.1  # seconds between two attempts


@contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`; `UserError` where another one still holds it after `patience`
    seconds. A file system without locks lets everyone in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + patience
    with path.open("ab") as file:
        while not _take(file.fileno(), fcntl.LOCK_EX):
            if time.monotonic() >= end:
                raise UserError(f"{path.parent}: another process is at work in it")
            time.sleep(PAUSE)
        yield


def is_locked(path: Path) -> bool:
    """Whether someone holds the lock file `path` at this moment."""
    try:
        with path.open("rb") as file:
            return not _take(file.fileno(), fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no locks on this file system
    return True
