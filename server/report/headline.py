"""The figures that a run is judged by: which there are, the headline, the table of stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from common.record.metrics import FIGURES, LABELLED, UNLABELLED, Metric
from common.record.reader import RunRecord
from server.report import formats
from server.report.formats import is_number

CLUSTERS = ("acc", "nmi", "ari")
WITHOUT_LABELS = (*UNLABELLED, "effective_rank", "std")


@dataclass(frozen=True)
class Tile:
    """One headline figure; `change` since the stage before, `kind` "better" or "worse" where it
    is either; `fill`: the share of its bar, None without one."""

    name: str
    value: str
    about: str
    change: str = ""
    kind: str = ""
    fill: float | None = None


@dataclass(frozen=True)
class Headline:
    """The figures to see first, what they were measured on, and the stage before that."""

    title: str
    tiles: tuple[Tile, ...]
    before: str


@dataclass(frozen=True)
class StageRow:
    """A line of the table of stages; `marks` flags the best figure of each column."""

    name: str
    method: str
    progress: str
    by: str
    values: tuple[str, ...] = ()
    marks: tuple[bool, ...] = ()


@dataclass(frozen=True)
class StageTable:
    """Every figure that any stage ended with."""

    metrics: tuple[Metric, ...]
    rows: tuple[StageRow, ...]


def planned_stages(record: RunRecord) -> list[dict[str, Any]]:
    """The plan's stages as dictionaries."""
    stages = record.run.plan.get("stages")
    return [s for s in stages if isinstance(s, dict)] if isinstance(stages, list) else []


def planned_rounds(record: RunRecord) -> int:
    """Training rounds of the plan, or as many as were seen."""
    seen = record.rounds[-1].round if record.rounds else 0
    return max(seen, sum(rounds_of(stage) for stage in planned_stages(record)))


def rounds_of(stage: Mapping[str, Any]) -> int:
    """Rounds of one of the plan's stages, 0 where it does not say."""
    rounds = stage.get("rounds")
    return rounds if isinstance(rounds, int) else 0


def headline(record: RunRecord) -> Headline | None:
    """The last finished stage's figures, or else what the sites last received; None before that."""
    before: Mapping[str, float] = {}
    earlier = ""
    if record.stages:
        last = record.stages[-1]
        now = last.figures
        title = f"After stage {last.stage + 1}, {last.stage_name}"
        if len(record.stages) > 1:
            before, earlier = record.stages[-2].figures, f"stage {record.stages[-2].stage + 1}"
    else:
        measured = [event for event in record.rounds if event.received]
        if not measured:
            return None
        now = measured[-1].received
        number = measured[-1].round - 1
        title = f"So far, after round {number}" if number else "Before training"
    keys = [key for key in (*LABELLED, *WITHOUT_LABELS) if is_number(now.get(key))][:5]
    tiles = tuple(_tile(FIGURES[key], now, before) for key in keys)
    return Headline(title, tiles, earlier) if tiles else None


def labelled(record: RunRecord) -> tuple[int, float] | None:
    """(images, share) behind the last stage's figures from labels: how many images were counted,
    and the share of them that their largest class has. None where there are none."""
    table = record.stages[-1].table if record.stages else None
    images = sum(map(sum, table)) if table and record.run.classes else 0
    if table is None or not images:
        return None
    return images, max(map(sum, zip_longest(*table, fillvalue=0))) / images


def behind_labels(record: RunRecord) -> str:
    """The same in sentences, and what k-means on pixels gets, where that is known; "" where there
    are no labels."""
    found = labelled(record)
    if found is None:
        return ""
    images, share = found
    return (
        f"ACC, NMI, ARI and purity are counted over {formats.count(images)} images with labels"
        f"{_at_sites(record)}. Their largest class is {formats.score(share)} of them: one cluster "
        f"for everything gets that as ACC.{_on_pixels(record)}"
    )


def _at_sites(record: RunRecord) -> str:
    """At how many of the sites, where the run's record has it."""
    found, sites = record.stages[-1].labelled, len(record.run.sites)
    return "" if found is None else f", at {found} of {sites} site{'s' * (sites != 1)}"


def _on_pixels(record: RunRecord) -> str:
    if record.pixels is None:
        return ""
    figures = record.pixels.figures
    told = ", ".join(f"{FIGURES[k].title} {formats.score(figures[k])}" for k in CLUSTERS)
    return f" k-means on their pixels, pooled on this machine: {told}."


def written(metric: Metric, value: Any) -> str:
    """The value as the page prints it."""
    return formats.score(value) if metric.share else formats.number(value)


def _tile(metric: Metric, now: Mapping[str, float], before: Mapping[str, float]) -> Tile:
    value, old = now[metric.key], before.get(metric.key)
    gain = value - old if is_number(old) and metric.share else None
    return Tile(
        name=metric.title,
        value=written(metric, value),
        about=metric.about,
        change="" if gain is None else formats.change(gain),
        kind=_kind(gain or 0.0) if metric.better == "higher" else "",
        fill=min(1.0, max(0.0, value)) if metric.share else None,
    )


def _kind(gain: float) -> str:
    if abs(gain) < 0.0005:  # prints as 0.000
        return ""
    return "better" if gain > 0 else "worse"


def stage_table(record: RunRecord) -> StageTable:
    """One row per stage of the plan, whether it has ended or not, and of what came after it."""
    ended = {event.stage: event for event in record.stages}
    values = [event.figures for event in record.stages]
    shown = [m for m in FIGURES.values() if any(is_number(v.get(m.key)) for v in values)]
    best = {m.key: max(v[m.key] for v in values if is_number(v.get(m.key))) for m in shown}
    stages = list(planned_stages(record))
    later = [{"name": e.stage_name} for number, e in sorted(ended.items()) if number >= len(stages)]
    rows = []
    for index, stage in enumerate([*stages, *later]):
        event = ended.get(index)
        done = sum(r.stage == index for r in record.rounds)
        figures: Mapping[str, float] = event.figures if event else {}
        rows.append(
            StageRow(
                name=str(stage.get("name", index + 1)),
                method=str(stage.get("objective") or stage.get("solver") or ""),
                progress=_progress(done, rounds_of(stage)),
                by=event.by if event else formats.NONE,
                values=tuple(written(m, figures.get(m.key)) for m in shown),
                marks=tuple(
                    m.better == "higher" and len(ended) > 1 and figures.get(m.key) == best[m.key]
                    for m in shown
                ),
            )
        )
    return StageTable(tuple(shown), tuple(rows))


def _progress(done: int, planned: int) -> str:
    return str(planned) if done == planned else f"{done} of {planned}"
