"""The figures that a run is judged by: which there are, the headline, the table of stages."""

from dataclasses import dataclass
from typing import Any

from server.report import formats
from server.report.formats import is_number
from server.report.record import Event, RunRecord


@dataclass(frozen=True)
class Metric:
    """A measured quantity; `unit` ones lie in [0, 1]."""

    key: str
    name: str
    about: str
    unit: bool = True
    more_is_better: bool = True

    def written(self, value: Any) -> str:
        """The value as the page prints it."""
        return formats.score(value) if self.unit else formats.number(value)


METRICS = (
    Metric("acc", "ACC", "clustering accuracy, best one-to-one matching"),
    Metric("nmi", "NMI", "normalised mutual information"),
    Metric("ari", "ARI", "adjusted Rand index, 0 by chance"),
    Metric("purity", "Purity", "share of each cluster's largest class"),
    Metric("knn", "kNN", "nearest neighbours on the embeddings"),
    Metric("linear", "Linear", "linear probe on the embeddings"),
    Metric("agreement", "Agreement", "whether two views of an image share a cluster, from 0 to 1"),
    Metric("silhouette", "Silhouette", "how far apart the clusters lie, at most 1"),
    Metric("entropy", "Evenness", "entropy of the cluster sizes, 1 when even", True, False),
    Metric("effective_rank", "Effective rank", "dimensions that the embeddings use", False, False),
    Metric("std", "Spread", "of the embeddings, 1 healthy, 0 collapsed", True, False),
)
HEADLINE = ("acc", "nmi", "ari", "knn", "linear")
WITHOUT_LABELS = ("agreement", "silhouette", "entropy", "effective_rank", "std")


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
    objective: str
    progress: str
    by: str
    values: tuple[str, ...] = ()
    marks: tuple[bool, ...] = ()


@dataclass(frozen=True)
class StageTable:
    """Every figure that any stage ended with."""

    metrics: tuple[Metric, ...]
    rows: tuple[StageRow, ...]


def planned_stages(record: RunRecord) -> list[Event]:
    """The plan's stages as dictionaries."""
    stages = record.run["plan"].get("stages")
    return [s for s in stages if isinstance(s, dict)] if isinstance(stages, list) else []


def planned_rounds(record: RunRecord) -> int:
    """Training rounds of the plan, or as many as were seen."""
    seen = record.rounds[-1]["round"] if record.rounds else 0
    return max(seen, sum(rounds_of(stage) for stage in planned_stages(record)))


def rounds_of(stage: Event) -> int:
    """Rounds of one of the plan's stages, 0 where it does not say."""
    rounds = stage.get("rounds")
    return rounds if isinstance(rounds, int) else 0


def headline(record: RunRecord) -> Headline | None:
    """The last finished stage's figures, or else what the sites last received; None before that."""
    before: Event = {}
    if record.stages:
        now = record.stages[-1]
        before = record.stages[-2] if len(record.stages) > 1 else {}
        title = f"After stage {now['stage'] + 1}, {now.get('stage_name', '')}"
    else:
        measured = [r for r in record.rounds if r.get("received")]
        if not measured:
            return None
        now = measured[-1]["received"]
        number = measured[-1]["round"] - 1
        title = f"So far, after round {number}" if number else "Before training"
    keys = [key for key in (*HEADLINE, *WITHOUT_LABELS) if is_number(now.get(key))][:5]
    tiles = tuple(
        _tile(metric, now, before) for key in keys for metric in METRICS if metric.key == key
    )
    earlier = f"stage {before['stage'] + 1}" if before else ""
    return Headline(title, tiles, earlier) if tiles else None


def _tile(metric: Metric, now: Event, before: Event) -> Tile:
    value, old = now[metric.key], before.get(metric.key)
    gain = value - old if is_number(old) and metric.unit else None
    return Tile(
        name=metric.name,
        value=metric.written(value),
        about=metric.about,
        change="" if gain is None else formats.change(gain),
        kind=_kind(gain or 0.0) if metric.more_is_better else "",
        fill=min(1.0, max(0.0, value)) if metric.unit else None,
    )


def _kind(gain: float) -> str:
    if abs(gain) < 0.0005:  # prints as 0.000
        return ""
    return "better" if gain > 0 else "worse"


def stage_table(record: RunRecord) -> StageTable:
    """One row per stage of the plan, whether it has ended or not."""
    ended = {event["stage"]: event for event in record.stages}
    shown = [m for m in METRICS if any(is_number(e.get(m.key)) for e in record.stages)]
    best = {m.key: max(e[m.key] for e in record.stages if is_number(e.get(m.key))) for m in shown}
    rows = []
    for index, stage in enumerate(planned_stages(record)):
        event = ended.get(index, {})
        done = sum(r.get("stage") == index for r in record.rounds)
        values = [event.get(metric.key) for metric in shown]
        rows.append(
            StageRow(
                name=str(stage.get("name", index + 1)),
                objective=str(stage.get("objective", "")),
                progress=_progress(done, rounds_of(stage)),
                by=str(event.get("by", formats.NONE)),
                values=tuple(m.written(v) for m, v in zip(shown, values, strict=True)),
                marks=tuple(
                    m.more_is_better and len(record.stages) > 1 and v == best[m.key]
                    for m, v in zip(shown, values, strict=True)
                ),
            )
        )
    return StageTable(tuple(shown), tuple(rows))


def _progress(done: int, planned: int) -> str:
    return str(planned) if done == planned else f"{done} of {planned}"
