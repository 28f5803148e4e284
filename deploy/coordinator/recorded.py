"""What the runs of a server recorded, for `covey runs` and `covey server sites`: read from their
records alone, which hold no label and no embedding."""

from dataclasses import dataclass
from pathlib import Path

from common.record.reader import has_run, read_events, read_settings
from common.record.schema import Event, RoundEvent, Run, StageEvent
from common.utils.errors import UserError
from common.utils.lock import is_locked
from server.run.folder import LOCK

SCORES = ("acc", "nmi", "agreement")


@dataclass(frozen=True)
class RecordedRun:
    """One run's folder: its settings (None before it has begun, or where they are damaged), its
    events, and what could not be read, a line each."""

    folder: Path
    run: Run | None
    events: list[Event]
    damaged: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """ "running" (a ServerApp is at work in the folder), "finished", "failed", or "stopped":
        it has begun, and nobody is at work; "" before it has begun, and "damaged" where its
        `run.json` is."""
        if is_locked(self.folder / LOCK):
            return "running"
        if self.run is None:
            return "damaged" if has_run(self.folder) else ""
        return "stopped" if self.run.status == "running" else self.run.status

    @property
    def rounds(self) -> int:
        """Training rounds that have ended."""
        return len({event.round for event in self.events if isinstance(event, RoundEvent)})

    @property
    def scores(self) -> dict[str, float]:
        """ACC and NMI of the last stage that ended, or of what the last round received; the last
        stage's agreement where it has that, with labels or without."""
        for event in reversed(self.events):
            figures: dict[str, float] = {}
            if isinstance(event, StageEvent):
                figures = event.figures
            elif isinstance(event, RoundEvent):
                figures = event.received
            found = {name: figures[name] for name in SCORES if name in figures}
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
    found = [_recorded(path) for path in folders]
    return sorted(found, key=lambda each: (each.run.created if each.run else "", each.folder.name))


def taken(runs: list[RecordedRun]) -> dict[str, Took]:
    """site -> what it took part in over all `runs`."""
    sites: dict[str, Took] = {}
    for run in runs:
        for name, facts in (run.run.sites if run.run else {}).items():
            sites.setdefault(name, Took()).examples = facts.examples
        for event in run.events:
            if not isinstance(event, RoundEvent | StageEvent):
                continue
            moved = event.bytes_down + event.bytes_up
            for name in event.answered:
                took = sites.setdefault(name, Took())
                took.rounds += isinstance(event, RoundEvent)
                took.bytes += moved / len(event.answered)
    return sites


def _recorded(folder: Path) -> RecordedRun:
    events, damaged = read_events(folder)
    run = None
    try:
        run = read_settings(folder) if has_run(folder) else None
    except UserError as error:
        damaged = [str(error), *damaged]
    return RecordedRun(folder, run, events, tuple(damaged))
