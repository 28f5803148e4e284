"""The folder of the run that is made in another's place: made whole or not at all, found again
after a kill.

In this order, so that a kill at any moment leaves nothing half forgotten: the new folder is filled
under a hidden name and renamed; the run in it is carried to its end; only then the earlier run is
marked as superseded. The same command goes on wherever it was interrupted.
"""

import glob
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from common.record.follow_up import read_order as read_follow_up
from common.record.forgetting import Forgetting, read_order
from common.record.reader import has_run, read_settings
from common.record.schema import Run
from common.record.writer import write_settings
from common.utils.errors import UserError
from common.utils.lock import is_locked, locked
from server.forgetting.method import Method, Past
from server.report import write_report
from server.run.folder import LOCK, Checkpoint, RunFolder

WITHOUT = "-without-"
PART = ".part"
FORGETTING = ".forgetting.lock"
Fill = Mapping[str, Callable[[Path], object]]


@dataclass(frozen=True)
class Earlier:
    """The run that images are taken back from: its folder, its record, the state it has reached."""

    folder: Path
    run: Run
    reached: Checkpoint

    def past(self, sites: Collection[str], gone: tuple[str, ...]) -> Past:
        """What it has left, for a method by which these `sites` take images back, and those that
        are `gone` all of them."""
        return Past(self.run, self.reached, RunFolder(self.folder).kept, sites, gone)

    def without(
        self, called: str, how: Method, images: dict[str, int], gone: tuple[str, ...]
    ) -> Forgetting:
        """What is to be noted of a run in its place: by the method `how`, which the record calls
        so, of site -> how many `images`; `gone` are the sites that leave."""
        return Forgetting(
            of=self.run.id,
            method=called,
            images=images,
            gone=gone,
            parameters=how.parameters(),
            earlier=self.run.withdrawn,
        )

    def held(self) -> AbstractContextManager[None]:
        """Inside, nobody else forgets in this run."""
        return locked(self.folder / FORGETTING)


def earlier_run(folder: Path) -> Earlier:
    """The run in `folder`; `UserError` unless it has finished, and nothing is in its place yet."""
    folder = folder.absolute()
    run = read_settings(folder)
    if is_locked(folder / LOCK):
        raise UserError(f"{folder} is going on: wait until it has ended, or stop it (covey stop)")
    if run.superseded:
        raise UserError(f"{folder}: {run.superseded} is in its place: forget there")
    if run.status != "finished":
        raise UserError(f"{folder} has not finished, it is {run.status}: nothing came of it")
    reached = RunFolder(folder).checkpoint()
    if reached is None:
        raise UserError(f"{folder} has no checkpoint")
    return Earlier(folder, run, reached)


def place_for(earlier: Earlier, key: str) -> tuple[Path, bool]:
    """The folder for what `key` wishes, and whether it is there already, begun or even finished, by
    a command that was interrupted."""
    runs, stem = earlier.folder.parent, f"{earlier.folder.name.partition(WITHOUT)[0]}{WITHOUT}"
    for path in sorted(runs.glob(f"{glob.escape(stem)}*")):
        order = read_order(path)
        if order is not None and order.key == key and order.forgetting.of == earlier.run.id:
            return path, True
    number = 1
    while (runs / f"{stem}{number}").exists():
        number += 1
    return runs / f"{stem}{number}", False


def make(path: Path, start: Checkpoint | None, fill: Fill) -> None:
    """Make the folder `path` whole: the state to begin with, and the files that `fill` writes, by
    their names; what it is for is one of them."""
    hidden = path.with_name(f".{path.name}{PART}")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        hidden.mkdir(parents=True)
        for name, write in fill.items():
            write(hidden / name)
        if start is not None:
            RunFolder(hidden).save(start)
        hidden.rename(path)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def begins(start: Checkpoint | None, rounds: int) -> str:
    """In words, from which of a run's `rounds` it goes on."""
    if not rounds:
        return "nothing is trained: all is solved again from what is left"
    if start is None:
        return f"begins at the beginning: all {rounds} rounds of training"
    left = rounds - start.round
    return f"begins after round {start.round} of {rounds}: {left or 'no'} rounds of training"


def unmake(path: Path) -> None:
    """Remove the folder where nothing came of it: no run has begun in it."""
    if path.is_dir() and not has_run(path):
        with suppress(OSError):
            shutil.rmtree(path)


def check_is_first(earlier: Earlier) -> None:
    """`UserError` for a run that only answers a question to another one (`covey split`)."""
    asked = earlier.run.follow_up
    if asked is not None:
        raise UserError(
            f"{earlier.folder} answers a question to {asked.of}: forget there, then ask again"
        )


def supersede(earlier: Earlier, by: Path) -> None:
    """Mark the earlier run, and those that answer questions to it, which hold what it had learned;
    write their reports anew."""
    for folder in answers_to(earlier.folder, earlier.run.id, strict=False):
        with suppress(UserError):
            if has_run(folder):
                _mark(folder, read_settings(folder), by)
            elif not is_locked(folder / LOCK):
                unmake(folder)
    _mark(earlier.folder, earlier.run, by)


def answers_to(folder: Path, of: str, strict: bool = True) -> list[Path]:
    """The folders beside `folder` that are made to answer questions to the run `of`, begun or not,
    and before each of them those that answer questions to it. `UserError` for one that is too
    damaged to say what it asks; unless `strict`, it is left out."""
    found: list[Path] = []
    for path in sorted(folder.parent.iterdir()):
        with nullcontext() if strict else suppress(UserError):
            if path != folder and _question_to(path) == of:
                found += [*answers_to(path, RunFolder(path).name, strict), path]
    return found


def _question_to(path: Path) -> str | None:
    """The run that the folder asks something of: by its note, or its record where that is
    damaged."""
    try:
        order = read_follow_up(path)
        return None if order is None else order.follow_up.of
    except UserError:
        asked = read_settings(path).follow_up
        return None if asked is None else asked.of


def _mark(folder: Path, run: Run, by: Path) -> None:
    """The report first: a kill in between leaves no report that says less than the record."""
    run = run.model_copy(update={"superseded": by.name})
    write_report(folder, run)
    write_settings(folder, run)
