"""What the runs of a server recorded, for `covey runs` and `covey server sites`: read from
`runs/*/run.json` and `metrics.jsonl` alone, which hold no label and no embedding."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.utils.files import Tail
from common.utils.lock import is_locked
from server.run.folder import LOCK

SCORES = ("acc", "nmi", "agreement")


@dataclass(frozen=True)
class RecordedRun:
    """One run's folder: `run` is its `run.json` ({} before it has begun), `events` the whole lines
    of its `metrics.jsonl`."""

    folder: Path
    run: Mapping[str, Any]
    events: list[Mapping[str, Any]]

    @property
    def status(self) -> str:
        """ "running" (a ServerApp is at work in the folder), "finished", "failed", or "stopped":
        it has begun, and nobody is at work; "" before it has begun."""
        if is_locked(self.folder / LOCK):
            return "running"
        status = str(self.run.get("status", ""))
        return "stopped" if status == "running" else status

    @property
    def rounds(self) -> list[Mapping[str, Any]]:
        """The events of its training rounds."""
        return [event for event in self.events if event.get("event") == "round"]

    @property
    def scores(self) -> dict[str, float]:
        """ACC and NMI of the last stage that ended, or of what the last round received; the last
        stage's agreement where it has that, with labels or without."""
        for event in reversed(self.events):
            figures = event.get("received", event)
            found = {n: float(figures[n]) for n in SCORES if isinstance(figures.get(n), float)}
            if found:
                return found
        return {}


@dataclass
class Took:
    """What a site took part in: `examples` it announced last; bytes are its share of what the
    exchanges with those who answered moved, both ways."""

    examples: int = 0
    rounds: int = 0
    bytes: float = 0.0


def recorded_runs(runs: Path) -> list[RecordedRun]:
    """Every run in the folder `runs`, oldest first."""
    folders = (path for path in runs.glob("*") if path.is_dir() and not path.is_symlink())
    found = [RecordedRun(path, _read(path / "run.json"), _events(path)) for path in folders]
    return sorted(found, key=lambda run: (str(run.run.get("created", "")), run.folder.name))


def taken(runs: list[RecordedRun]) -> dict[str, Took]:
    """site -> what it took part in over all `runs`."""
    sites: dict[str, Took] = {}
    for run in runs:
        for name, facts in run.run.get("sites", {}).items():
            took = sites.setdefault(name, Took())
            took.examples = int(facts.get("examples", 0))
        for event in run.events:
            answered = event.get("answered", [])
            moved = event.get("bytes_down", 0) + event.get("bytes_up", 0)
            for name in answered:
                took = sites.setdefault(name, Took())
                took.rounds += event.get("event") == "round"
                took.bytes += moved / len(answered)
    return sites


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _events(folder: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in Tail(folder / "metrics.jsonl").lines()]
