"""`covey forget --delete`: the run that another one is in the place of, gone from the disk.

What was learned with the images is in its model, its states and its tables. What sites have
received of it is theirs to delete. A folder is renamed, then removed, so that a kill leaves no half
of a run where runs are looked for; the next deletion takes away what is left.
"""

import glob
import shutil
from pathlib import Path
from typing import get_args

from common.record.follow_up import Asks
from common.record.reader import read_settings
from common.utils.errors import UserError
from common.utils.lock import is_locked
from deploy.forgetting.preparing import PART, WITHOUT, answers_to
from server.run.folder import LOCK

GONE = ".deleted"
QUESTIONS = tuple(f"-{kind}" for kind in get_args(Asks))


def to_delete(folder: Path) -> tuple[Path, ...]:
    """The superseded run in `folder`, after those that answer questions to it and so hold what it
    had learned; `UserError` unless another run is in its place."""
    folder = folder.absolute()
    run = read_settings(folder)
    if not run.superseded:
        raise UserError(f"{folder}: no run is in its place: covey forget makes one first")
    found = [*answers_to(folder, run.id), folder]
    busy = next((path for path in found if is_locked(path / LOCK)), None)
    if busy is not None:
        raise UserError(f"{busy} is going on: stop it first (covey stop)")
    return tuple(found)


def lines(folders: tuple[Path, ...]) -> list[str]:
    """In words."""
    told = [f"to be deleted: {path}, with its model, states, tables and report" for path in folders]
    return [*told, "what sites have received of it stays theirs; this cannot be undone"]


def delete(folders: tuple[Path, ...]) -> None:
    """Remove them, and beside them what a deletion that was killed has left, and runs that were to
    be made from them when somebody was killed."""
    for folder in folders:
        folder.rename(folder.with_name(f".{folder.name}{GONE}"))
        halves = (f".{glob.escape(folder.name)}{of}*{PART}" for of in (WITHOUT, *QUESTIONS))
        for pattern in (f".*{GONE}", *halves):
            for left in folder.parent.glob(pattern):
                shutil.rmtree(left)
