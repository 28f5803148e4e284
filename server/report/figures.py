"""The charts of learning and of clusters, each with its heading and a line on how to read it. One
that a run has no data for is left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from common.record.metrics import COSTS, FIGURES
from common.record.reader import RunRecord
from common.record.schema import RoundEvent, StageEvent
from server.report import formats
from server.report.clusters import DISTINCT, Counts, heat_map, scatter, shape_of, size_bars
from server.report.curves import Point, Series, line_chart
from server.report.formats import is_number
from server.report.headline import planned_rounds, planned_stages, rounds_of
from server.report.svg import Band

SIZES = "Cluster sizes"


@dataclass(frozen=True)
class Figure:
    """A chart with its heading, a line on how to read it, and a legend of (style, name)."""

    title: str
    note: str
    svg: Markup
    legend: Sequence[tuple[str, str]] = ()
    kind: str = ""


def bands(record: RunRecord, first: float) -> list[Band]:
    """The stages along an axis of rounds; a stage's first round begins at `first` (0 for the state
    that it received, 0.5 for a bar around 1)."""
    found, start = [], first
    for index, stage in enumerate(planned_stages(record)):
        end = start + rounds_of(stage)
        found.append(Band(start, end, f"{index + 1} {stage.get('name', '')}".strip()))
        start = end
    return found


def learning(record: RunRecord) -> list[Figure]:
    """Clustering, loss and health against rounds."""
    found = [
        _curves(
            record, "Clustering", ("acc", "nmi", "ari"),
            "Of the model that the sites received. A large dot ends a stage.",
        ),
        _losses(record),
        _curves(
            record, "Health", ("std", "entropy"),
            "Spread near 0 is collapse; evenness near 0 is one cluster that takes all.",
        ),
    ]  # fmt: skip
    return [figure for figure in found if figure is not None]


def _curves(record: RunRecord, title: str, keys: Sequence[str], note: str) -> Figure | None:
    series = [one for key in keys if (one := _measured(record, key)).points]
    rounds = planned_rounds(record)
    if not series or not rounds:
        return None
    label = f"{', '.join(one.name for one in series)} against rounds"
    svg = line_chart(
        series, bands(record, 0), rounds, label=label, written="{:.2f}".format, bounds=(0, 1)
    )
    return Figure(title, note, svg)


def _measured(record: RunRecord, key: str) -> Series:
    """A figure of the received model, one round back, and at each stage's end."""
    segments: dict[int, list[Point]] = {}
    for event in record.rounds:
        value = event.received.get(key)
        if is_number(value):
            segments.setdefault(event.stage, []).append((event.round - 1, value))
    ends = []
    for stage in record.stages:
        value = stage.figures.get(key)
        if is_number(value):
            segments.setdefault(stage.stage, []).append((stage.round, value))
            ends.append((stage.round, value))
    return Series(FIGURES[key].title, tuple(tuple(s) for s in segments.values()), tuple(ends))


def _losses(record: RunRecord) -> Figure | None:
    terms: dict[str, dict[int, list[Point]]] = {}
    for event in record.rounds:
        for name, value in event.loss.items():
            if is_number(value):
                parts = terms.setdefault(name, {})
                parts.setdefault(event.stage, []).append((event.round, value))
    if not terms:
        return None
    series = [
        Series(_short(name), tuple(tuple(s) for s in parts.values()))
        for name, parts in _without_copies(terms)
    ]
    svg = line_chart(
        series,
        bands(record, 0),
        planned_rounds(record),
        label="Loss against rounds",
        written=formats.number,
    )
    return Figure(COSTS["loss"].title, COSTS["loss"].about, svg)


def _without_copies(
    terms: Mapping[str, dict[int, list[Point]]],
) -> Iterator[tuple[str, dict[int, list[Point]]]]:
    """The total first; a term that equals it everywhere adds nothing to see."""
    total = terms.get("loss")
    if total is not None:
        yield "loss", total
    for name, parts in terms.items():
        if name != "loss" and parts != total:
            yield name, parts


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def cluster_figures(record: RunRecord) -> list[Figure]:
    """Cluster sizes, the last contingency table, the map of embeddings."""
    found = [sizes] if (sizes := _cluster_sizes(record)) else []
    table = next((t for e in reversed(record.stages) if (t := _table(e)) is not None), None)
    if table is not None:
        note = "Clusters in rows, matched to classes; shade: share of a row."
        names = _class_names(record, table.shape[1])
        kind = "wide" if table.shape[1] > 14 else ""
        found.append(Figure("Clusters and classes", note, heat_map(table, names), kind=kind))
    drawn = _map(record)
    return [*found, drawn] if drawn else found


def _cluster_sizes(record: RunRecord) -> Figure | None:
    """Sizes at the end of the last stage, or else in the last round that has them."""
    events: list[RoundEvent | StageEvent] = [*record.rounds, *record.stages]
    sizes = next((e.cluster_sizes for e in reversed(events) if e.cluster_sizes), ())
    if not sizes:
        return None
    used = sum(1 for images in sizes if images)
    note = f"{used} of {len(sizes)} clusters hold images."
    return Figure(SIZES, note, size_bars(sizes))


def _table(event: StageEvent) -> Counts | None:
    try:
        table = np.array(event.table or (), np.int64)
    except (ValueError, OverflowError):  # rows of several lengths
        return None
    return table if table.ndim == 2 and table.size else None


def _class_names(record: RunRecord, classes: int) -> list[str]:
    names = record.run.classes
    return list(names) if len(names) == classes else [str(index) for index in range(classes)]


def names(record: RunRecord) -> list[tuple[int, str, str]]:
    """(cluster, what the coordinator has called it, its images), of those with a name."""
    if record.named is None:
        return []
    sizes = next((e.cluster_sizes for e in reversed(record.stages) if e.cluster_sizes), ())
    known = len(sizes) == len(record.named.names)
    return [
        (number, name, formats.count(sizes[number]) if known else formats.NONE)
        for number, name in enumerate(record.named.names)
        if name
    ]


def pictures(record: RunRecord) -> list[tuple[int, tuple[str, ...]]]:
    """(cluster, addresses of pictures nearest to its centre), where the images are here."""
    central = record.map.central if record.map else ()
    return [(number, shown) for number, shown in enumerate(central) if shown]


def _map(record: RunRecord) -> Figure | None:
    points = record.map
    if points is None or not points.x:
        return None
    by, shown = ("class", points.classes) if points.classes else ("cluster", points.cluster)
    groups = {number: index for index, number in enumerate(sorted(set(shown)))}
    names = _class_names(record, max(groups) + 1) if by == "class" else []
    legend = [
        (shape_of(index), names[number] if names else str(number))
        for number, index in groups.items()
    ]
    svg = scatter(points.x, points.y, [groups[number] for number in shown])
    count = formats.count(points.images)
    note = f"{points.method} of {count} images whose data is local, by {by}."
    if len(groups) > DISTINCT:
        legend, note = [], f"{note} Colours repeat."
    return Figure("Map of embeddings", note, svg, legend, "map")
