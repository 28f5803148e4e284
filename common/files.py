"""Files that are never half written."""

import os
from pathlib import Path


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole: a reader sees the old or the new content, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
