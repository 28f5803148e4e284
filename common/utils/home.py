"""Where Covey keeps what has no folder of its own."""

import os
from pathlib import Path


def covey_home() -> Path:
    """`$COVEY_HOME`, or `~/.covey`."""
    return Path(os.environ.get("COVEY_HOME") or Path.home() / ".covey")
