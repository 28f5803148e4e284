"""Parts of a run's record, whole but for what a test says; and what a run has written so far."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.record.reader import EVENTS
from common.record.schema import Event, RoundEvent, Run, SiteFacts, StageEvent
from common.record.writer import write_settings

WHO: dict[str, Any] = {"answered": (), "missing": (), "refused": {}}
COST: dict[str, Any] = {"bytes_down": 60, "bytes_up": 40, "seconds": {"total": 1.0, "wait": 0.5}}
STAGE: dict[str, Any] = {"stage": 0, "stage_name": "representation", "cluster_sizes": (3, 4)}


def a_run(**facts: Any) -> Run:
    """A run of two sites that is going on."""
    site = SiteFacts(examples=100, channels=1, side=8)
    return Run(
        **{
            "id": "a-run",
            "created": "2026-05-04T03:02:01+0000",
            "recipe": "fedbyol",
            "engine": "in-process",
            "status": "running",
            "plan": {"stages": [{"rounds": 3}, {"rounds": 2}]},
            "versions": {},
            "sites": {"north": site, "south": site},
            "classes": (),
            "parameters": 12,
            **facts,
        }
    )


def a_round(number: int, *answered: str, **facts: Any) -> RoundEvent:
    """A training round that those sites answered."""
    received = {"acc": 0.5, "nmi": 0.25}
    about = {**WHO, **COST, **STAGE, "stage_round": number, "loss": {"loss": 1.5}}
    return RoundEvent(
        **{**about, "round": number, "answered": answered, "received": received} | facts
    )


def a_stage(*answered: str, **facts: Any) -> StageEvent:
    """The end of the first stage, which those sites answered."""
    about = {**WHO, **COST, **STAGE, "round": 3, "by": "centroids", "figures": {}}
    return StageEvent(**{**about, "answered": answered, **facts})


def write_record(folder: Path, run: Run | None, events: Iterable[Event] = ()) -> Path:
    """Write a run's folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    if run is not None:
        write_settings(folder, run)
    lines = "".join(event.to_json() + "\n" for event in events)
    (folder / EVENTS).write_text(lines, encoding="utf-8")
    return folder


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """A run's events of one kind as they lie in the file, with their figures beside the rest; a
    last line that is being written is not one yet."""
    path = folder / EVENTS
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event | event.get("figures", {}) for event in found if event["event"] == kind]
