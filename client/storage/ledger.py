"""The site's log of what left the machine: one line of JSON for each answer."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from common.protocol.messages import Reply
from common.utils.errors import plain
from common.utils.files import append_line

NAMES = "names of clusters"  # what the log calls those that the site offers


def enter(path: Path, run: str, reply: Reply, data: bytes) -> None:
    """Append what `reply` is (the server's `run`, kind, round, its parts with their shapes) and the
    size and digest of the bytes that carry it."""
    line: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "run": plain(run),
        "kind": reply.kind,
        "round": reply.round,
        "parts": parts(reply),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    append_line(path, json.dumps(line))


def parts(reply: Reply) -> dict[str, list[int]]:
    """Name -> shape of every array in a reply."""
    arrays: dict[str, NDArray[Any]] = {}
    arrays |= {f"parameters of {name}": array for name, array in reply.groups.items()}
    arrays |= {f"parameters of {name}": each.mantissas for name, each in reply.packed.items()}
    for declared in reply.exchange.sums:
        given = getattr(reply, declared.part)
        if declared.name in given:
            arrays[declared.words] = given[declared.name]
    if reply.centroids is not None:
        arrays["centroids"], arrays["counts"] = reply.centroids.points, reply.centroids.counts
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    names = reply.info.get("names")
    return {**shapes, **({NAMES: [len(names)]} if isinstance(names, list) else {})}
