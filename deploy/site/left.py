"""What left a site's machine, for its operator to read."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from common.utils.errors import UserError, unknown
from common.utils.files import Tail
from deploy.site.folder import SiteFolder
from deploy.terminal.progress import size


class LedgerFollower:
    """Reads the answers that are new in a site's log of what left."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path, at_end=True)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Those since the last call."""
        return map(json.loads, self._tail.lines())


def read_ledger(folder: Path, run: str = "") -> list[dict[str, Any]]:
    """What left the machine, oldest first, of one `run` ("": of all); `UserError` where the folder
    is no site's, or nothing left in that run."""
    path = SiteFolder(folder).ledger
    try:
        lines = path.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        if (SiteFolder(folder).private / "site").exists():
            return []
        raise UserError(f"{folder} is no site's folder: there is no {path.name}") from None
    try:
        entries = [dict(json.loads(line)) for line in lines if line]
    except (TypeError, ValueError):
        raise UserError(f"{path} is damaged") from None
    if not run:
        return entries
    found = [entry for entry in entries if run_of(entry) == run]
    if not found:
        raise unknown("run", run, {name for name in map(run_of, entries) if name})
    return found


def show_ledger(entries: list[dict[str, Any]], console: Console) -> None:
    """What left the machine: a table for each run, in the order in which they began."""
    for run in dict.fromkeys(map(run_of, entries)):
        title = f"run {run}" if run else "run not noted (by an earlier version)"
        console.print(title, style="bold", highlight=False, markup=False, soft_wrap=True)
        console.print(_table([entry for entry in entries if run_of(entry) == run]))
    console.print(in_all(entries), highlight=False)


def _table(entries: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE, show_lines=True)
    table.add_column("time", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("parts and their shapes")
    table.add_column("size", justify="right", no_wrap=True)
    for entry in entries:
        parts = [f"{name} {'×'.join(map(str, v))}" for name, v in entry["parts"].items()]
        table.add_row(when(entry), what(entry), "\n".join(parts) or "–", size(entry["bytes"]))
    return table


def in_all(entries: list[dict[str, Any]]) -> str:
    """How many answers, and their size."""
    total = sum(entry["bytes"] for entry in entries)
    return f"{len(entries)} answers, {size(total)} in all"


def what(entry: Mapping[str, Any]) -> str:
    """An answer as its site's operator knows it."""
    if entry["kind"] == "hello":
        return "who this site is"
    if entry["kind"] == "weights":
        return "that it has a part of the weights"
    return f"round {entry['round']} ({entry['kind']})"


def run_of(entry: Mapping[str, Any]) -> str:
    """The run that an answer was for; "" where the line was written before lines named it."""
    return str(entry.get("run", ""))


def when(entry: Mapping[str, Any]) -> str:
    """Day and time of an answer."""
    return str(entry["time"][:19].replace("T", " "))
