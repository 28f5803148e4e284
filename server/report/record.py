"""Reads a run folder into one frozen record. It forgives what a kill leaves behind: a line of
`metrics.jsonl` that is cut, a round that a resumed run did twice, a map that is half written."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.utils.errors import UserError

Event = dict[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run: `run` is `run.json`; rounds and stages are in order, each once;
    `map` is the 2-D map of embeddings, where there is one."""

    run: Event
    rounds: tuple[Event, ...] = ()
    stages: tuple[Event, ...] = ()
    warnings: tuple[Event, ...] = ()
    map: Event | None = None


def read_run(folder: Path) -> RunRecord:
    """Read a run folder; `UserError` where its `run.json` is missing or damaged."""
    run = _run(folder)
    events = list(_events(folder / "metrics.jsonl"))
    return RunRecord(
        run=run,
        rounds=_once_each(events, "round", "round"),
        stages=_once_each(events, "stage", "stage"),
        warnings=tuple(e for e in events if e.get("event") == "warning"),
        map=_map(folder / "map.json"),
    )


def _run(folder: Path) -> Event:
    path = folder / "run.json"
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} holds no run: there is no run.json") from None
    except ValueError:
        raise UserError(f"{path} is damaged") from None
    if not isinstance(run, dict) or not isinstance(run.get("plan"), dict):
        raise UserError(f"{path} is damaged: it has no plan")
    return run


def _events(path: Path) -> Iterator[Event]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the line in flight when the server was killed
        if isinstance(event, dict):
            yield event


def _once_each(events: list[Event], kind: str, key: str) -> tuple[Event, ...]:
    """The last event of `kind` for each number under `key`, in order."""
    found = {e[key]: e for e in events if e.get("event") == kind and isinstance(e.get(key), int)}
    return tuple(found[number] for number in sorted(found))


def _map(path: Path) -> Event | None:
    try:
        points = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(points, Mapping):
        return None
    lengths = {len(points[k]) for k in ("x", "y", "cluster") if isinstance(points.get(k), list)}
    whole = len(lengths) == 1 and all(k in points for k in ("x", "y", "cluster"))
    classes = points.get("class")
    if not whole or (classes is not None and len(classes) not in lengths):
        return None
    return dict(points)
