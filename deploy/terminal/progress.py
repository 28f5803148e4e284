"""What a run shows while it works and when it ends, read from its run folder alone.

The same lines and the same table, whichever engine runs and whichever machine watches.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from common.record.metrics import FIGURES, LABELLED, UNLABELLED
from common.record.reader import Damaged, RunRecord
from common.record.schema import (
    ChoiceEvent,
    DeliveredEvent,
    Event,
    NamesEvent,
    NoteEvent,
    RecalledEvent,
    ResumedEvent,
    RoundEvent,
    SplitEvent,
    StageEvent,
    UnlearnedEvent,
    WarningEvent,
)
from common.record.stages import worse
from common.utils.names import printable
from deploy.terminal.table import show_table
from server.report.headline import behind_labels

BAR, WIDTH = "\N{FULL BLOCK}", 12  # of the bars of a choice
MOST_STEPS = 20  # lines of rounds that measure nothing
ABOUT = {
    LABELLED: "kNN and linear: on each site's own evaluation images.",
    UNLABELLED: f"No site has labels. {FIGURES['agreement'].name}: {FIGURES['agreement'].about}",
}


def show_event(console: Console, event: Event | Damaged, rounds: int) -> None:
    """One line of at most 80 columns for one event, but for warnings."""
    match event:
        case RoundEvent():
            _show_round(console, event, rounds)
        case StageEvent():
            scores = "  ".join(_score(k, event.figures) for k in _shown([event.figures]))
            name = escape(event.stage_name)
            console.print(f"[bold]end of {name}[/]  {scores}", highlight=False)
        case ResumedEvent() if not event.changes:
            console.print(f"[dim]going on after round {event.round}[/]", highlight=False)
        case ChoiceEvent():
            _show_choice(console, event)
        case SplitEvent() | NamesEvent():
            console.print(escape(printable(event.text)), highlight=False)
        case DeliveredEvent() | UnlearnedEvent() | RecalledEvent() | NoteEvent():
            console.print(f"[dim]{escape(printable(event.text))}[/]", highlight=False)
        case WarningEvent() | ResumedEvent() | Damaged():
            said = escape(printable(event.text))
            console.print(f"[yellow]warning[/] {said}", highlight=False)


def _show_round(console: Console, event: RoundEvent, rounds: int) -> None:
    received = event.received
    every = math.ceil(rounds / MOST_STEPS)
    if not received and event.round not in (1, rounds) and event.round % every:
        return  # a step, which measures nothing: there may be thousands
    scores = " ".join(_score(key, received) for key in LABELLED[:3] if key in received)
    absent = len(event.missing) + len(event.refused)
    console.print(
        f"{event.round:>3}/{rounds} [bold]{escape(event.stage_name):<14}[/] "
        f"loss {event.loss.get('loss', 0):6.3f} {scores} "
        f"{event.seconds['total']:5.1f} s {size(event.bytes_down + event.bytes_up)}"
        + (f"  [yellow]without {absent} sites[/]" if absent else ""),
        highlight=False,
    )


def _show_choice(console: Console, event: ChoiceEvent) -> None:
    """A line for each number of clusters that was tried, and the suggestion."""
    names = ("clusters", "silhouette", "views", "starts", "merge cost", "spread", "")
    best = max(each.score for each in event.candidates)
    cells = [
        (
            str(each.clusters),
            *(f"{value:.3f}" for value in (each.silhouette, each.views, each.restarts)),
            f"{each.merge_cost:.4f}",
            f"{each.spread:.3f}",
            BAR * round(WIDTH * each.score / best if best > 0 else 0),
        )
        for each in event.candidates
    ]
    show_table(console, names, cells, title="How many clusters?", numbers=names[:-1])
    console.print(f"[bold]{escape(event.text)}[/]", highlight=False)


def _score(key: str, figures: Mapping[str, float]) -> str:
    return f"{FIGURES[key].name} {figures[key]:.3f}" if key in figures else ""


def show_result(console: Console, record: RunRecord) -> None:
    """The table that a run ends in."""
    run, plan = record.run, record.run.plan
    what = f"{run.recipe} on {plan['dataset']}, {len(run.sites)} sites, {plan['partition']}"
    rows = summary_rows(record)
    shown = _shown(rows)
    numbers = (*(FIGURES[name].name for name in shown), "s/round", "MB/round")
    cells = [
        (
            row["stage"],
            *(f"{row[name]:.3f}" if row[name] is not None else "–" for name in shown),
            *_per_round(row),
        )
        for row in rows
    ]
    show_table(console, ("stage", *numbers), cells, title=what, numbers=numbers)
    console.print(f"[dim]{ABOUT[shown]} MB: all sites, both ways.[/]", highlight=False)
    if behind := behind_labels(record):
        console.print(f"[dim]{behind}[/]", highlight=False)
    for text in worse(record):
        console.print(f"[yellow]note[/] {escape(printable(text))}", highlight=False)


def _shown(several: Collection[Mapping[str, Any]]) -> tuple[str, ...]:
    """The scores to show: those that need labels, where a site has any."""
    labelled = any(figures.get(key) is not None for figures in several for key in LABELLED)
    return LABELLED if labelled else UNLABELLED


def _per_round(row: Mapping[str, Any]) -> tuple[str, str]:
    if not row["rounds"]:
        return "–", "–"
    sent = row["bytes_down_per_round"] + row["bytes_up_per_round"]
    return f"{row['seconds_per_round']:.1f}", f"{sent / 1e6:.1f}"


def summary_rows(record: RunRecord) -> list[dict[str, Any]]:
    """One row per finished stage: scores, and means over its training rounds (None without)."""
    rows = []
    for stage in record.stages:
        events = [e for e in record.rounds if e.stage == stage.stage]
        keys = (*LABELLED, *UNLABELLED, "purity", "effective_rank")
        rows.append(
            {
                "stage": stage.stage_name,
                "rounds": len(events),
                "by": stage.by,
                **{key: stage.figures.get(key) for key in keys},
                "seconds_per_round": _mean([e.seconds["total"] for e in events]),
                "bytes_down_per_round": _mean([e.bytes_down for e in events]),
                "bytes_up_per_round": _mean([e.bytes_up for e in events]),
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
