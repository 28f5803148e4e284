"""`covey runs` and `covey stop`: the runs of a server, and how one is ended."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from common.record.metrics import FIGURES
from common.record.reader import has_run
from common.utils.errors import UserError, unknown
from common.utils.lock import is_locked
from common.utils.names import portable
from deploy.coordinator.folder import NOT_RUNNING, ServerFolder
from deploy.coordinator.recorded import RecordedRun, recorded_runs
from deploy.flower.control import FlowerRun, UnreachableError
from deploy.terminal.table import show_table
from server.run.folder import LOCK

ENDING = 60.0  # seconds for a ServerApp to be gone: Flower ends it at its next heartbeat
LOOK = 0.2
PATIENCE = 10.0  # seconds for a SuperLink that is being restarted


@dataclass(frozen=True)
class RunLine:
    """One run: its folder's name; "waiting" (submitted, and not begun), "running", "finished",
    "superseded" (images were taken back from it), "failed", "stopped" or "damaged"; training rounds
    done and planned; when it started; its scores; what of its record could not be read."""

    id: str
    recipe: str
    status: str
    rounds: int
    planned: int
    started: str
    nmi: float | None
    acc: float | None
    agreement: float | None
    damaged: tuple[str, ...] = ()

    def row(self, scores: Sequence[str]) -> tuple[str, ...]:
        """Its line of the table."""
        values = (getattr(self, name) for name in scores)
        written = (f"{value:.3f}" if value is not None else "–" for value in values)
        started = self.started[:16].replace("T", " ") or "–"
        done = f"{self.rounds}/{self.planned or '?'}"
        return (self.id, self.recipe, self.status, done, started, *written)


def list_runs(folder: ServerFolder) -> list[RunLine]:
    """Every run that was submitted to the server in `folder`, oldest first."""
    folder.settings()
    waiting = {run.folder for run in _flower_runs(folder) if _unfinished(run)}
    return [_line(run, waiting) for run in recorded_runs(folder.runs)]


def runs_in(folder: Path) -> list[RunLine]:
    """Every run that has begun in a folder of runs on this machine, oldest first."""
    return [_line(run, set()) for run in recorded_runs(folder) if run.status]


def show_runs(lines: list[RunLine], console: Console) -> None:
    """The runs as a table; where no site has labels, with the score that needs none."""
    if not lines:
        console.print("there is no run: covey run, covey simulate or covey submit starts one")
        return
    unlabelled = any(line.agreement is not None and line.nmi is None for line in lines)
    keys = ("agreement",) if unlabelled else ("nmi", "acc")
    scores = {key: FIGURES[key].name for key in keys}
    numbers = ("rounds", "started", *scores.values())
    rows = [line.row(tuple(scores)) for line in lines]
    show_table(console, ("run", "recipe", "status", *numbers), rows, numbers=numbers)
    for line in lines:
        for text in line.damaged:
            console.print(f"{line.id}: {text}", highlight=False, markup=False, soft_wrap=True)


def as_json(lines: list[RunLine]) -> list[dict[str, Any]]:
    """The same figures for programs."""
    return [asdict(line) for line in lines]


def stop(folder: ServerFolder, name: str) -> Path:
    """Stop the run `name` (its folder, or that one's name), and return its folder when its
    ServerApp is gone. `UserError` where the server or the run is not running."""
    folder.settings()
    run = find(folder, name)
    control = folder.control(PATIENCE)
    if control is None:
        raise UserError(f"{NOT_RUNNING} {folder.path}")
    try:
        going = [
            each
            for each in control.runs()
            if each.folder == portable(str(run)) and _unfinished(each)
        ]
        for each in going:
            control.stop(each.id)
    except UnreachableError:
        raise UserError(f"the SuperLink does not answer (logs: {folder.logs})") from None
    if not going:
        raise UserError(f"the run {run.name} is not running: see covey runs")
    end = time.monotonic() + ENDING
    while is_locked(run / LOCK) and time.monotonic() < end:
        time.sleep(LOOK)
    return run


def find(folder: ServerFolder, name: str) -> Path:
    """The folder of a run that is given by its name or its path; `UserError` for an unknown one."""
    known = {path.name: path for path in folder.runs.glob("*") if path.is_dir()}
    given = Path(name)
    if has_run(given) or given.absolute() in known.values():
        return given.absolute()
    if name not in known:
        raise unknown("run", name, known)
    return known[name]


def _flower_runs(folder: ServerFolder) -> list[FlowerRun]:
    control = folder.control()
    if control is not None:
        with suppress(UnreachableError):
            return control.runs()
    return []


def _unfinished(run: FlowerRun) -> bool:
    return not run.status.startswith("finished")


def _line(run: RecordedRun, waiting: set[str]) -> RunLine:
    status = run.status
    if not status or status == "stopped":
        status = "waiting" if portable(str(run.folder)) in waiting else "stopped"
    begun = run.run
    if begun and begun.superseded and status == "finished":
        status = "superseded"
    return RunLine(
        run.folder.name,
        begun.recipe if begun else "–",
        status,
        run.rounds,
        sum(stage.get("rounds", 0) for stage in begun.plan.get("stages", ())) if begun else 0,
        begun.created if begun else "",
        run.scores.get("nmi"),
        run.scores.get("acc"),
        run.scores.get("agreement"),
        run.damaged,
    )
