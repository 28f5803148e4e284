"""What left a site's machine, for its operator to read."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from common.utils.errors import UserError
from common.utils.files import Tail
from deploy.cli.progress import size
from deploy.site.folder import SiteFolder


class LedgerFollower:
    """Reads the answers that are new in a site's log of what left."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path, at_end=True)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Those since the last call."""
        return map(json.loads, self._tail.lines())


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """What left the machine, oldest first; `UserError` where the folder is no site's."""
    path = SiteFolder(folder).ledger
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        if (SiteFolder(folder).private / "site").exists():
            return []
        raise UserError(f"{folder} is no site's folder: there is no {path.name}") from None
    try:
        return [json.loads(line) for line in lines if line]
    except json.JSONDecodeError:
        raise UserError(f"{path} is damaged") from None


def show_ledger(entries: list[dict[str, Any]], console: Console) -> None:
    """What left the machine, as a table."""
    table = Table(box=box.SIMPLE, show_lines=True)
    table.add_column("time", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("parts and their shapes")
    table.add_column("size", justify="right", no_wrap=True)
    for entry in entries:
        parts = [f"{name} {'×'.join(map(str, v))}" for name, v in entry["parts"].items()]
        table.add_row(when(entry), what(entry), "\n".join(parts) or "–", size(entry["bytes"]))
    console.print(table)
    console.print(in_all(entries), highlight=False)


def in_all(entries: list[dict[str, Any]]) -> str:
    """How many answers, and their size."""
    total = sum(entry["bytes"] for entry in entries)
    return f"{len(entries)} answers, {size(total)} in all"


def what(entry: Mapping[str, Any]) -> str:
    """An answer as its site's operator knows it."""
    if entry["kind"] == "hello":
        return "who this site is"
    return f"round {entry['round']} ({entry['kind']})"


def when(entry: Mapping[str, Any]) -> str:
    """Day and time of an answer."""
    return str(entry["time"][:19].replace("T", " "))
