"""The run folder: `run.json`, `metrics.jsonl`, the checkpoint, the results.

Every file is replaced whole, or appended to line by line; killing the server at any moment leaves a
folder that `resume` goes on from, at most one round back.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.clustering.centroids import Centroids
from common.config.options import Plan
from common.protocol.messages import Floats
from common.utils.errors import UserError
from common.utils.files import append_line, note, read_note, write_atomic
from common.utils.lock import locked
from server.run.events import Events

CHECKPOINT = "checkpoint.safetensors"
LOCK = ".lock"  # held by the process that writes the run
PATIENCE = 10.0  # seconds for one that was killed to be gone


@dataclass(frozen=True)
class Checkpoint:
    """The global state after training round `round` (0: before the first); `closed`: stages whose
    final evaluation is done; `memory`: the server optimiser's."""

    round: int
    closed: int
    groups: Mapping[str, Floats]
    centroids: Centroids | None = None
    memory: Mapping[str, Floats] = field(default_factory=dict)


class RunFolder:
    """Reads and writes one run's folder; `watch` is told each event as it is logged."""

    def __init__(
        self, path: Path, watch: Callable[[Mapping[str, Any]], None] | None = None
    ) -> None:
        self.path = path
        self._watch = watch
        self.run: dict[str, Any] = {}
        self._events: Events | None = None

    def held(self) -> AbstractContextManager[None]:
        """Keep the folder for this process; `UserError` where another one is at work in it."""
        return locked(self.path / LOCK, PATIENCE)

    def reopen(self) -> None:
        """Let a run that failed go on: its end is taken back."""
        earlier = self._read_run()
        if earlier is not None and earlier.get("status") == "failed":
            self.run = _running(earlier)
            self._write_run()

    def begin(self, run: Mapping[str, Any]) -> None:
        """Write `run.json`: everything that decides the result. On a resumed run what was written
        at its start stays, and a run with other settings is refused."""
        self.path.mkdir(parents=True, exist_ok=True)
        earlier = self._read_run()
        if earlier is not None:
            if earlier.get("plan") != run["plan"]:
                raise UserError(f"{self.path}: it holds a run with another plan")
            run = _running(earlier)
        self.run = dict(run)
        self._write_run()

    def finish(self, status: str, reason: str = "") -> None:
        """Record how the run ended: "finished", or "failed" and why, if the disk takes that."""
        failed = status == "failed"
        self.run |= {"status": status, "ended": timestamp()}
        if reason:
            self.run["reason"] = reason
        with suppress(OSError) if failed else nullcontext():
            if self._events:
                self._events.close()
            if self.path.exists() and "plan" in self.run:
                self._write_run()

    def plan(self) -> Plan:
        """The plan of the run that the folder holds; `UserError` if there is none."""
        earlier = self._read_run()
        if earlier is None:
            raise UserError(f"{self.path} holds no run: there is no run.json")
        return Plan.from_json(json.dumps(earlier.get("plan")))

    def clusters(self) -> int:
        """The number of clusters that the run in the folder began with; 0 where there is none."""
        earlier = self._read_run()
        return 0 if earlier is None else self.plan().clusters

    def shape(self) -> tuple[int, int] | None:
        """Channels and side of the images of the run in the folder; None where there is none."""
        for facts in dict((self._read_run() or {}).get("sites", {})).values():
            return int(facts["channels"]), int(facts["side"])
        return None

    def log(self, event: Mapping[str, Any]) -> None:
        """Append one event to `metrics.jsonl` and to the TensorBoard files."""
        line = {**event, "time": round(time.time(), 3)}
        append_line(self.path / "metrics.jsonl", json.dumps(line))
        self._events = self._events or Events(self.path / "events")
        self._events.write(line)
        if self._watch:
            self._watch(line)

    def take_back(self, checkpoint: Checkpoint) -> None:
        """Drop events of rounds and stages that the checkpoint does not know: they will be done
        again."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line in flight when the server was killed
            late_stage = event.get("event") == "stage" and event["stage"] >= checkpoint.closed
            if event.get("round", 0) <= checkpoint.round and not late_stage:
                kept.append(line + "\n")
        write_atomic(path, "".join(kept).encode())

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        write_atomic(self.path / CHECKPOINT, _pack(checkpoint))

    def checkpoint(self) -> Checkpoint | None:
        """The last checkpoint, or None in a new folder; `UserError` if the file is damaged."""
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            return _unpack(path)
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise UserError(f"{path} is damaged: {error}") from None

    def write(self, name: str, data: bytes) -> None:
        """Replace one result file."""
        write_atomic(self.path / name, data)

    def _read_run(self) -> dict[str, Any] | None:
        path = self.path / "run.json"
        if not path.exists():
            return None
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, ValueError):
            raise UserError(f"{path} is damaged") from None

    def _write_run(self) -> None:
        write_atomic(self.path / "run.json", json.dumps(self.run, indent=2).encode())


def _running(run: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in run.items() if k not in ("ended", "reason")} | {"status": "running"}


def timestamp() -> str:
    """Now, as ISO 8601 with the offset."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _pack(checkpoint: Checkpoint) -> bytes:
    arrays: dict[str, Any] = {f"group/{name}": a for name, a in checkpoint.groups.items()}
    arrays |= {f"memory/{name}": a for name, a in checkpoint.memory.items()}
    if checkpoint.centroids is not None:
        arrays["centroids/points"] = checkpoint.centroids.points
        arrays["centroids/counts"] = checkpoint.centroids.counts
    facts = note({"round": checkpoint.round, "closed": checkpoint.closed})
    return save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata=facts)


def _unpack(path: Path) -> Checkpoint:
    with safe_open(path, framework="numpy") as file:
        facts = read_note(file.metadata())
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    centroids = None
    if "centroids/points" in arrays:
        centroids = Centroids(arrays["centroids/points"], arrays["centroids/counts"])

    def part(prefix: str) -> dict[str, Floats]:
        return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}

    return Checkpoint(
        int(facts["round"]), int(facts["closed"]), part("group/"), centroids, part("memory/")
    )
