"""How much memory is free, and what this process no longer needs of its own."""

import ctypes
import gc
import sys
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


def release() -> None:
    """Give back to the system what the C library keeps, for the next use, of memory that was freed.
    Where it is not GNU's library, nothing happens."""
    gc.collect()
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
