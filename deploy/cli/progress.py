"""What a run shows while it works and when it ends, read from its run folder alone.

The same lines and the same table, whichever engine runs and whichever machine watches.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.utils.files import Tail
from server.report.record import RunRecord

SCORES = ("acc", "nmi", "ari", "knn", "linear")
WITHOUT_LABELS = ("agreement", "silhouette", "entropy")
HEADS = {
    "acc": "ACC",
    "nmi": "NMI",
    "ari": "ARI",
    "knn": "kNN",
    "linear": "linear",
    "agreement": "agreement",
    "silhouette": "silhouette",
    "entropy": "evenness",
}
ABOUT = {
    SCORES: "kNN and linear: on each site's own evaluation images.",
    WITHOUT_LABELS: "No site has labels. agreement: NMI between the clusters of two views of each "
    "image.",
}


class Follower:
    """Reads the events that are new in a run's `metrics.jsonl`."""

    def __init__(self, folder: Path) -> None:
        self._tail = Tail(folder / "metrics.jsonl", at_end=True)

    def events(self) -> Iterator[dict[str, Any]]:
        """Those since the last call; all anew where a resumed run took rounds back."""
        return map(json.loads, self._tail.lines())


def show_event(console: Console, event: Mapping[str, Any], rounds: int) -> None:
    """One line of at most 80 columns for one event, but for warnings."""
    if event["event"] == "warning":
        console.print(f"[yellow]warning[/] {escape(event['text'])}", highlight=False)
        return
    if event["event"] == "stage":
        scores = "  ".join(f"{HEADS[k]} {event[k]:.3f}" for k in _shown([event]) if k in event)
        name = escape(event["stage_name"])
        console.print(f"[bold green]end of {name}[/]  {scores}", highlight=False)
        return
    received = event["received"]
    scores = " ".join(f"{HEADS[k]} {received[k]:.3f}" for k in SCORES[:3] if k in received)
    absent = len(event["missing"]) + len(event["refused"])
    console.print(
        f"{event['round']:>3}/{rounds} [bold]{escape(event['stage_name']):<14}[/] "
        f"loss {event['loss'].get('loss', 0):6.3f} {scores} "
        f"{event['seconds']['total']:5.1f} s {size(event['bytes_down'] + event['bytes_up'])}"
        + (f"  [yellow]without {absent} sites[/]" if absent else ""),
        highlight=False,
    )


def show_result(console: Console, record: RunRecord) -> None:
    """The table that a run ends in."""
    plan = record.run["plan"]
    table = Table(
        title=f"{plan['recipe']} on {plan['dataset']}, {len(record.run['sites'])} sites, "
        f"{plan['partition']}",
        title_style="bold",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    rows = summary_rows(record)
    shown = _shown(rows)
    table.add_column("stage")
    for head in (*(HEADS[name] for name in shown), "s/round", "MB/round"):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(
            row["stage"],
            *(f"{row[name]:.3f}" if row[name] is not None else "–" for name in shown),
            *_per_round(row),
        )
    console.print(table)
    console.print(f"[dim]{ABOUT[shown]} MB: all sites, both ways.[/]", highlight=False)


def _shown(stages: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The scores to show: those that need labels, where a site has any."""
    labelled = any(stage.get(name) is not None for stage in stages for name in SCORES)
    return SCORES if labelled else WITHOUT_LABELS


def _per_round(row: Mapping[str, Any]) -> tuple[str, str]:
    if not row["rounds"]:
        return "–", "–"
    sent = row["bytes_down_per_round"] + row["bytes_up_per_round"]
    return f"{row['seconds_per_round']:.1f}", f"{sent / 1e6:.1f}"


def summary_rows(record: RunRecord) -> list[dict[str, Any]]:
    """One row per finished stage: scores, and means over its training rounds (None without)."""
    rows = []
    for stage in record.stages:
        events = [e for e in record.rounds if e["stage"] == stage["stage"]]
        rows.append(
            {
                "stage": stage["stage_name"],
                "rounds": len(events),
                "by": stage["by"],
                **{name: stage.get(name) for name in SCORES},
                **{name: stage.get(name) for name in WITHOUT_LABELS},
                "purity": stage.get("purity"),
                "effective_rank": stage.get("effective_rank"),
                "seconds_per_round": _mean([e["seconds"]["total"] for e in events]),
                "bytes_down_per_round": _mean([e["bytes_down"] for e in events]),
                "bytes_up_per_round": _mean([e["bytes_up"] for e in events]),
            }
        )
    return rows


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def size(count: float) -> str:
    """Bytes for people: "1.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
