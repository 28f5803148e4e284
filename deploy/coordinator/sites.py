"""`covey server sites`: who is invited, who is there, and what each took part in."""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.coordinator.folder import ServerFolder, fingerprint
from deploy.coordinator.recorded import Took, recorded_runs, taken
from deploy.flower.control import Node, UnreachableError, read_public_key
from deploy.terminal.progress import size
from deploy.terminal.table import show_table

UNITS = ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"))  # seconds


@dataclass(frozen=True)
class SiteStatus:
    """One site: "invited" (not registered yet, or the server is not running), "registered" (has
    never joined), "online", "offline" or "revoked"; `seen` in seconds since 1970 (None: not known);
    what it took part in, by its name."""

    name: str
    status: str
    fingerprint: str
    seen: float | None = None
    examples: int = 0
    rounds: int = 0
    bytes: int = 0

    def row(self) -> tuple[str, ...]:
        """Its line of the table."""
        counts = (f"{self.examples:,}", str(self.rounds), size(self.bytes))
        numbers = counts if self.rounds or self.examples else ("–",) * len(counts)
        return (self.name, self.status, _ago(self.seen), *numbers, self.fingerprint)


def sites(folder: ServerFolder) -> list[SiteStatus]:
    """Every invited site, then those that were revoked and not invited again."""
    folder.settings()
    there = nodes(folder)
    took = taken(recorded_runs(folder.runs))
    invited = folder.invited()
    found = []
    for name, path in invited.items():
        node = there.get(read_public_key(path))
        status, seen = (node.status, node.seen) if node else ("invited", None)
        found.append(_status(name, path, status, seen, took))
    for path, name in folder.revoked().items():
        if name not in invited:
            found.append(_status(name, path, "revoked", None, took))
    return found


def show_sites(found: Iterable[SiteStatus], console: Console) -> None:
    """The sites as a table."""
    numbers = ("images", "rounds", "moved")
    heads = ("site", "status", "last seen", *numbers, "key")
    rows = [site.row() for site in found]
    if rows:
        show_table(console, heads, rows, numbers=numbers)
    else:
        console.print("nobody is invited yet: covey server invite DIR NAME", markup=False)


def as_json(found: Iterable[SiteStatus]) -> list[dict[str, Any]]:
    """The same figures for programs."""
    return [asdict(site) for site in found]


def nodes(folder: ServerFolder) -> dict[bytes, Node]:
    """public key -> site as the running server knows it; nothing where it is not running."""
    control = folder.control()
    if control is not None:
        with suppress(UnreachableError):
            return {node.key: node for node in control.nodes()}
    return {}


def _status(
    name: str, path: Path, status: str, seen: float | None, took: dict[str, Took]
) -> SiteStatus:
    site = took.get(name, Took())
    figures = (site.examples, site.rounds, round(site.bytes))
    return SiteStatus(name, status, fingerprint(path), seen, *figures)


def _ago(seen: float | None) -> str:
    if seen is None:
        return "–"
    passed = max(0.0, time.time() - seen)
    for seconds, unit in UNITS:
        if passed >= 2 * seconds or seconds == 1:
            return f"{passed / seconds:.0f} {unit} ago"
    raise AssertionError
