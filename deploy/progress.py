"""What a run shows while it works and when it ends, read from its run folder alone.

The same lines and the same table, whichever engine runs and whichever machine watches.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from server.report.record import RunRecord

SCORES = ("acc", "nmi", "ari", "knn", "linear")
HEADS = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "knn": "kNN", "linear": "linear probe"}


class Follower:
    """Reads the events that are new in a run's `metrics.jsonl`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.jsonl"
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def events(self) -> Iterator[dict[str, Any]]:
        """Whole lines since the last call."""
        if not self._path.exists():
            return
        if self._path.stat().st_size < self._offset:
            self._offset = 0  # a resumed run took rounds back
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)


def show_event(console: Console, event: Mapping[str, Any], rounds: int) -> None:
    """One line for one event."""
    if event["event"] == "warning":
        console.print(f"[yellow]warning[/] {event['text']}", highlight=False)
        return
    scores = event.get("received", event) if event["event"] == "round" else event
    figures = "  ".join(f"{HEADS[k]} {scores[k]:.3f}" for k in SCORES if k in scores)
    if event["event"] == "stage":
        console.print(
            f"[bold green]stage ended[/] {event['stage_name']}: {figures}", highlight=False
        )
        return
    console.print(
        f"round [bold]{event['round']:>3}[/]/{rounds}  {event['stage_name']:<14}  "
        f"loss {event['loss'].get('loss', 0):7.4f}  {figures or '(first centroids)':<33}  "
        f"{len(event['answered'])} sites  {event['seconds']['total']:5.1f} s  "
        f"[dim]↓{size(event['bytes_down'])} ↑{size(event['bytes_up'])}[/]",
        highlight=False,
    )


def show_result(console: Console, record: RunRecord) -> None:
    """The table that a run ends in."""
    table = Table(title=f"{record.run.get('recipe')} · {record.run.get('id')}", title_style="bold")
    table.add_column("stage")
    for name in SCORES:
        table.add_column(HEADS[name], justify="right")
    for head in ("s/round", "MB/round ↓", "MB/round ↑"):
        table.add_column(head, justify="right")
    for row in summary_rows(record):
        table.add_row(
            f"{row['stage']} [dim]({row['rounds']} rounds, by {row['by']})[/]",
            *(f"{row[name]:.3f}" if row[name] is not None else "–" for name in SCORES),
            f"{row['seconds_per_round']:.1f}",
            f"{row['bytes_down_per_round'] / 1e6:.2f}",
            f"{row['bytes_up_per_round'] / 1e6:.2f}",
        )
    console.print(table)


def summary_rows(record: RunRecord) -> list[dict[str, Any]]:
    """One row per finished stage: scores, and means over its training rounds."""
    rows = []
    for stage in record.stages:
        events = [e for e in record.rounds if e["stage"] == stage["stage"]]
        count = max(1, len(events))
        rows.append(
            {
                "stage": stage["stage_name"],
                "rounds": len(events),
                "by": stage["by"],
                **{name: stage.get(name) for name in SCORES},
                "purity": stage.get("purity"),
                "silhouette": stage.get("silhouette"),
                "effective_rank": stage.get("effective_rank"),
                "seconds_per_round": sum(e["seconds"]["total"] for e in events) / count,
                "bytes_down_per_round": sum(e["bytes_down"] for e in events) / count,
                "bytes_up_per_round": sum(e["bytes_up"] for e in events) / count,
            }
        )
    return rows


def size(count: float) -> str:
    """Bytes for people: "1.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
