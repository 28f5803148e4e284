"""The run folder: `run.json`, `metrics.jsonl`, the checkpoint, the results.

Every file is replaced whole, or appended to line by line; killing the server at any moment leaves a
folder that `resume` goes on from, at most one round back.
"""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.clustering.centroids import Centroids
from common.config.options import Plan
from common.protocol.messages import Floats
from common.record import follow_up, forgetting
from common.record.reader import has_run, read_settings
from common.record.schema import (
    ChoiceEvent,
    Event,
    KeptState,
    Run,
    SiteFacts,
    SplitEvent,
    StageEvent,
    UnlearnedEvent,
)
from common.record.writer import append_event, take_back, write_settings
from common.utils.errors import UserError
from common.utils.files import note, read_note, utf8_path, write_atomic
from common.utils.lock import locked
from common.utils.names import label, printable
from server.run import kept
from server.run.events import Events
from server.run.progress import ProgressFile
from server.run.resuming import go_on, site_changes

CHECKPOINT = "checkpoint.safetensors"
LOCK = ".lock"  # held by the process that writes the run
LONGEST_NAME = 90  # bytes of a run's name; a site takes 100
OWN = ("left.jsonl", "forgotten.jsonl", "logs", "private")  # of a site's folder, beside its runs
PATIENCE = 10.0  # seconds for one that was killed to be gone
TO_UNLEARN = "unlearn"
"""In a state's memory: sites have yet to unlearn what they take back."""


@dataclass(frozen=True)
class Checkpoint:
    """The global state after training round `round` (0: before the first); `closed`: stages whose
    final evaluation is done; `memory`: the server optimiser's."""

    round: int
    closed: int
    groups: Mapping[str, Floats]
    centroids: Centroids | None = None
    memory: Mapping[str, Floats] = field(default_factory=dict)

    def knows(self, event: Event) -> bool:
        """Whether what the event tells of has gone into this state: its round, the stage that it
        ends, the unlearning that it begins with."""
        if isinstance(event, UnlearnedEvent) and TO_UNLEARN in self.memory:
            return False
        ends = event.stage if isinstance(event, StageEvent | SplitEvent | ChoiceEvent) else None
        return event.round <= self.round and (ends is None or ends < self.closed)


class RunFolder:
    """Reads and writes one run's folder; `watch` is told each event as it is logged, `progress` is
    kept by who knows what goes on."""

    def __init__(self, path: Path, watch: Callable[[Event], None] | None = None) -> None:
        self.path = path
        self.progress = ProgressFile(path)
        self._watch = watch
        self.run: Run | None = None
        self._events: Events | None = None
        self._reached: int | None = None

    @property
    def name(self) -> str:
        """What sites and screens call the run: its folder's name, made one that every site takes
        for a run's."""
        name = label(self.path.name, LONGEST_NAME)
        if len(name.encode()) > LONGEST_NAME:  # that many bytes
            name = label(self.path.name, LONGEST_NAME // 4)
        return f"run-{name}" if name in OWN or name.startswith(".") else name

    def held(self) -> AbstractContextManager[None]:
        """Keep the folder for this process; `UserError` where another one is at work in it."""
        return locked(self.path / LOCK, PATIENCE)

    def reopen(self) -> None:
        """Let a run that failed go on: its end is taken back."""
        earlier = self._earlier()
        if earlier is not None and earlier.status == "failed":
            self._write_run(_running(earlier))

    def begin(self, run: Run) -> None:
        """Write `run.json`: everything that decides the result. Where the folder holds a run
        already it goes on, and what has changed since is said (`go_on`); `UserError` where it
        cannot."""
        self.path.mkdir(parents=True, exist_ok=True)
        earlier = self._earlier()
        if earlier is None:
            self._write_run(run)
            return
        reached = self.checkpoint()
        run, resumed = go_on(self.path, earlier, run, None if reached is None else reached.round)
        new = sorted(run.sites.keys() - earlier.sites.keys())
        self._write_run(self._keeping(run, reached, before=new))
        self.log(resumed)

    def meet(self, name: str, facts: SiteFacts, classes: Collection[str]) -> str:
        """Record a site that is let in while the run goes on, or comes back; what is not as it was
        of one that is known, in words, or ""."""
        run = self.run
        if run is None or (run.sites.get(name) == facts and set(classes) <= set(run.classes)):
            return ""
        known = run.sites.get(name)
        if known is None:
            run = self._keeping(run, self.checkpoint(), before=(name,))
        now = {
            "sites": dict(sorted({**run.sites, name: facts}.items())),
            "classes": tuple(sorted({*run.classes, *classes})),
        }
        self._write_run(run.model_copy(update=now))
        changes = site_changes(name, known, facts) if known else ()
        return ", ".join(change.text for change in changes)

    def keep_trained(self, state: Checkpoint) -> None:
        """Keep the state after all training, which is the one on the disk."""
        if self.run is not None:
            self._write_run(self._keeping(self.run, state, trained=True))

    def _keeping(
        self,
        run: Run,
        reached: Checkpoint | None,
        before: Collection[str] = (),
        trained: bool = False,
    ) -> Run:
        """The record with the state on the disk kept, which is the one that was `reached`: `before`
        sites have come for the first time, or since all was `trained`."""
        if reached is None or not (before or trained):
            return run
        state = KeptState(
            round=reached.round, closed=reached.closed, before=tuple(before), trained=trained
        )
        return kept.keep(self.path, run, self.path / CHECKPOINT, state)

    def finish(self, status: Literal["finished", "failed"], reason: str = "") -> None:
        """Record how the run ended, and why it failed, if the disk takes that."""
        self.progress.end()
        ended = {"status": status, "ended": timestamp(), "reason": printable(reason) or None}
        with suppress(OSError) if status == "failed" else nullcontext():
            if self._events:
                self._events.close()
            if self.path.exists() and self.run is not None:
                self._write_run(self.run.model_copy(update=ended))

    def plan(self) -> Plan:
        """The plan of the run that the folder holds, as it was asked for where it has no checkpoint
        yet, or of the one that it was made for; `UserError` if there is none."""
        order = None if has_run(self.path) else self._made_for()
        if order is not None:
            return order.plan
        run = read_settings(self.path)
        plan = run.settings()
        open_still = () if self._has_checkpoint() else run.settled
        defaults = {name: Plan.model_fields[name].default for name in open_still}
        return plan.model_copy(update=defaults)

    def began_with(self) -> Plan | None:
        """The plan with which the run in the folder began, all settled; None where there is none,
        or where it has no checkpoint yet."""
        earlier = self._earlier() if self._has_checkpoint() else None
        return None if earlier is None else earlier.settings()

    def shape(self) -> tuple[int, int] | None:
        """Channels and side of the images that the run in the folder has learned from; None where
        it has no checkpoint yet."""
        earlier = self._earlier() if self._has_checkpoint() else None
        for site in earlier.sites.values() if earlier else ():
            if site.channels and site.side:
                return site.channels, site.side
        return None

    def log(self, event: Event) -> None:
        """Append one event to `metrics.jsonl` and to the TensorBoard files."""
        written = append_event(self.path, event)
        self._events = self._events or Events(self.path / "events")
        self._events.write(written)
        if self._watch:
            self._watch(written)

    def take_back(self, checkpoint: Checkpoint) -> None:
        """Drop events of what the checkpoint does not know: it will be done again."""
        take_back(self.path, lambda event: not checkpoint.knows(event))

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        write_atomic(self.path / CHECKPOINT, _pack(checkpoint))
        self._reached = checkpoint.round

    @property
    def reached(self) -> int:
        """The training round after which the last checkpoint was written, 0 without one."""
        if self._reached is None:
            found = self.checkpoint()
            self._reached = found.round if found else 0
        return self._reached

    def checkpoint(self) -> Checkpoint | None:
        """The last checkpoint, or None in a new folder; `UserError` if the file is damaged."""
        return read_checkpoint(self.path / CHECKPOINT) if self._has_checkpoint() else None

    def kept(self, state: KeptState) -> Checkpoint:
        """A state that the run has kept; `UserError` where its file is damaged, or not there."""
        return read_checkpoint(kept.path_of(self.path, state))

    def write(self, name: str, data: bytes) -> None:
        """Replace one result file."""
        write_atomic(self.path / name, data)

    def _made_for(self) -> forgetting.Order | follow_up.Order | None:
        return forgetting.read_order(self.path) or follow_up.read_order(self.path)

    def _has_checkpoint(self) -> bool:
        return (self.path / CHECKPOINT).exists()

    def _earlier(self) -> Run | None:
        return read_settings(self.path) if has_run(self.path) else None

    def _write_run(self, run: Run) -> None:
        self.run = run
        write_settings(self.path, run)
        kept.clear(self.path, run)


def _running(run: Run) -> Run:
    return run.model_copy(update={"status": "running", "ended": None, "reason": None})


def timestamp() -> str:
    """Now, as ISO 8601 with the offset."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def read_checkpoint(path: Path) -> Checkpoint:
    """The state in a file; `UserError` where it is damaged, or not there."""
    try:
        return _unpack(path)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path} is damaged: {error}") from None


def _pack(checkpoint: Checkpoint) -> bytes:
    arrays: dict[str, Any] = {f"group/{name}": a for name, a in checkpoint.groups.items()}
    arrays |= {f"memory/{name}": a for name, a in checkpoint.memory.items()}
    if checkpoint.centroids is not None:
        arrays["centroids/points"] = checkpoint.centroids.points
        arrays["centroids/counts"] = checkpoint.centroids.counts
    facts = note({"round": checkpoint.round, "closed": checkpoint.closed})
    return save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata=facts)


def _unpack(path: Path) -> Checkpoint:
    with utf8_path(path) as name, safe_open(name, framework="numpy") as file:
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
