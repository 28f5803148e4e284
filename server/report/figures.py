"""The charts of learning and of clusters, each with its heading and a line on how to read it. One
that a run has no data for is left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from server.report import formats
from server.report.clusters import DISTINCT, Counts, heat_map, scatter, shape_of, size_bars
from server.report.curves import Point, Series, line_chart
from server.report.formats import is_number
from server.report.headline import METRICS, planned_rounds, planned_stages, rounds_of
from server.report.record import Event, RunRecord
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
    names = {metric.key: metric.name for metric in METRICS}
    series = [one for key in keys if (one := _measured(record, key, names[key])).points]
    rounds = planned_rounds(record)
    if not series or not rounds:
        return None
    label = f"{', '.join(one.name for one in series)} against rounds"
    svg = line_chart(
        series, bands(record, 0), rounds, label=label, written="{:.2f}".format, bounds=(0, 1)
    )
    return Figure(title, note, svg)


def _measured(record: RunRecord, key: str, name: str) -> Series:
    """A figure of the received model, one round back, and at each stage's end."""
    segments: dict[int, list[Point]] = {}
    for event in record.rounds:
        value = _of(event, "received").get(key)
        if is_number(value):
            segments.setdefault(event.get("stage", 0), []).append((event["round"] - 1, value))
    ends = []
    for event in record.stages:
        at, value = event.get("round"), event.get(key)
        if is_number(at) and is_number(value):
            segments.setdefault(event["stage"], []).append((at, value))
            ends.append((at, value))
    return Series(name, tuple(tuple(s) for s in segments.values()), tuple(ends))


def _losses(record: RunRecord) -> Figure | None:
    terms: dict[str, dict[int, list[Point]]] = {}
    for event in record.rounds:
        for name, value in _of(event, "loss").items():
            if is_number(value):
                parts = terms.setdefault(str(name), {})
                parts.setdefault(event.get("stage", 0), []).append((event["round"], value))
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
    return Figure("Loss", "Mean over the images that the sites trained on, by term.", svg)


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


def _of(event: Event, key: str) -> Event:
    value = event.get(key)
    return value if isinstance(value, dict) else {}


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
    events = [*record.rounds, *record.stages]
    sizes = next((s for e in reversed(events) if (s := _sizes(e))), [])
    if not sizes:
        return None
    used = sum(1 for images in sizes if images)
    note = f"{used} of {len(sizes)} clusters hold images."
    return Figure(SIZES, note, size_bars(sizes))


def _table(event: Event) -> Counts | None:
    try:
        table = np.array(event.get("table"), np.int64)
    except (ValueError, TypeError, OverflowError):
        return None
    return table if table.ndim == 2 and table.size and table.min() >= 0 else None


def _sizes(event: Event) -> list[int]:
    sizes = event.get("cluster_sizes")
    good = isinstance(sizes, list) and all(is_number(n) and n >= 0 for n in sizes)
    return [int(n) for n in sizes] if good and isinstance(sizes, list) else []


def _class_names(record: RunRecord, classes: int) -> list[str]:
    names = record.run.get("classes")
    if isinstance(names, list) and len(names) == classes:
        return [str(name) for name in names]
    return [str(index) for index in range(classes)]


def _map(record: RunRecord) -> Figure | None:
    points = record.map
    if not points or not points["x"]:
        return None
    by, shown = (
        ("class", points["class"]) if points.get("class") else ("cluster", points["cluster"])
    )
    groups = {name: index for index, name in enumerate(sorted(set(shown), key=str))}
    if all(isinstance(name, int) for name in groups):
        groups = {name: index for index, name in enumerate(sorted(groups))}
    names = _class_names(record, max((*groups.values(), 0)) + 1) if by == "class" else []
    legend = []
    for name, index in groups.items():
        named = isinstance(name, int) and by == "class" and name < len(names)
        legend.append((shape_of(index), names[name] if named else str(name)))
    svg = scatter(points["x"], points["y"], [groups[name] for name in shown])
    method, images = points.get("method", "2-D map"), formats.count(points.get("images"))
    note = f"{method} of {images} images whose data is local, by {by}."
    if len(groups) > DISTINCT:
        legend, note = [], f"{note} Colours repeat."
    return Figure("Map of embeddings", note, svg, legend, "map")
