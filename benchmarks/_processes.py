"""What a process and its children took, as Linux says."""

import os
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def of_session(leader: int) -> dict[int, float]:
    """Process id -> CPU seconds so far, with those of children that have ended, of the processes of
    a session."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == leader:
            found[int(entry.name)] = sum(map(int, fields[11:15])) / TICK
    return found


def cpu(leader: int) -> float:
    """CPU seconds of a session so far."""
    return sum(of_session(leader).values())


def peak(leader: int) -> float:
    """The most memory (MB) that any process of a session has had."""
    return max((_peak(pid) for pid in of_session(leader)), default=0.0)


def _peak(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(sizes[0]) / 1024 if sizes else 0.0


def memory(leader: int) -> float:
    """MB of a session's processes now; what processes share is divided among them."""
    return sum(_mapped(pid, "Pss:") for pid in of_session(leader))


def private(leader: int) -> float:
    """MB of a session's processes now that no other process has: what can grow."""
    return sum(_mapped(pid, "Private_") for pid in of_session(leader))


def _mapped(pid: int, kind: str) -> float:
    """MB in the lines of a process's memory that begin with `kind`."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024
