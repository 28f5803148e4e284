"""How much memory is free."""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
AVAILABLE = "MemAvailable:"
UNKNOWN = 1 << 62


def available() -> int:
    """Bytes that can be taken without swapping, as Linux estimates it; a great many where it does
    not say."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return UNKNOWN
    found = [line.split() for line in lines if line.startswith(AVAILABLE)]
    return int(found[0][1]) * 1024 if found else UNKNOWN
