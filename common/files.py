"""Files that are never half written, and what Covey notes in its parameter files."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file whole: a reader sees the old or the new content, also after a power cut. It has
    `mode`, less the umask, from the moment it exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def note(facts: Mapping[str, Any]) -> dict[str, str]:
    """`facts` as the metadata of a safetensors file: one key, since several are written in a
    random order, and equal runs shall leave equal bytes."""
    return {"covey": json.dumps(facts, sort_keys=True)}


def read_note(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The inverse of `note`; `ValueError` for a file that Covey did not write."""
    try:
        return dict(json.loads((metadata or {})["covey"]))
    except (KeyError, TypeError, json.JSONDecodeError):
        raise ValueError("Covey did not write it") from None
