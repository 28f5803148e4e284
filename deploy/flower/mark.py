"""Who a site's connection was, noted for the process after it.

A SuperLink counts a process that was killed as there until it has missed two heartbeats, 60 s, and
lets nobody else in under its key for so long: otherwise two machines with one key would take each
other's messages. The process that follows a killed one in the same folder may go on as that one:
as long as the SuperLink still counts the killed process as there, it cannot have let in anyone
else. Whether it is the same folder of the same machine, the mark says, and a copy of it does not.
"""

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, HEARTBEAT_PATIENCE

ON_ITS_WAY = 10.0  # seconds that a heartbeat may take to arrive
VALID = HEARTBEAT_PATIENCE * HEARTBEAT_DEFAULT_INTERVAL - ON_ITS_WAY
LENGTH = 512  # bytes of a note
BOOT = Path("/proc/sys/kernel/random/boot_id")


def since_boot() -> float:
    """Seconds on a clock that all processes share, that nobody sets and that sleep does not
    stop."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True)
class Mark:
    """The note in the file `path`, in a folder of which the caller holds the lock."""

    path: Path

    def write(self, node: int, heard: float) -> None:
        """Note that this process is `node`, and that its last heartbeat that arrived was sent
        `heard` seconds since boot. A disk that is full loses the note and nothing else."""
        with suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                content = {"node": node, "heard": heard, "place": _place(descriptor)}
                # All at once, and always as long: a kill leaves the old note or the new one.
                os.pwrite(descriptor, json.dumps(content).encode().ljust(LENGTH), 0)
            finally:
                os.close(descriptor)

    def node(self) -> int | None:
        """Whom the process before this one was, if it was killed and is still counted as there."""
        try:
            with self.path.open("rb") as file:
                content = json.load(file)
                here = content["place"] == _place(file.fileno())
            node, ago = int(content["node"]), since_boot() - float(content["heard"])
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return node if here and 0 <= ago < VALID else None

    def clear(self) -> None:
        """This process says goodbye: none is to go on as it."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _place(descriptor: int) -> list[str | int]:
    """This file on this machine since it was booted: no copy has the same."""
    about = os.fstat(descriptor)
    boot = BOOT.read_text().strip() if BOOT.exists() else ""
    return [platform.node(), boot, about.st_dev, about.st_ino]
