"""The page of `methods.py`: one HTML file that stands alone, made from the CSV's rows. No script;
the run report's style sheet."""

import statistics
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from _methods_plot import STYLE as PLOT_STYLE
from _methods_plot import Entry, Level, pareto
from _methods_run import CONTROLS, Cell, is_centralised
from _methods_template import PAGE
from _methods_template import STYLE as PAGE_STYLE

from common.config import recipes
from common.metrics import COLLAPSED
from common.utils.errors import UserError
from common.utils.files import write_atomic
from server.report import fill, formats
from server.report.style import STYLE

REFERENCES = {
    "centralised": "one site with all images: the ceiling",
    "centralised-spectral": "one site with all images: covey's objective, then plain k-means",
    "centralised-covey": "one site with all images, by recipe covey",
    "centralised-covey-projection": "one site with all images, covey without start and landmarks",
    "standalone": "one site of the partition alone, judged on everybody's images: the floor",
}
SCORES = (
    ("nmi", "NMI"), ("acc", "ACC"), ("ari", "ARI"),
    ("pooled_nmi", "NMI pooled"), ("pooled_acc", "ACC pooled"),
    ("knn", "kNN"), ("linear", "Linear"),
)  # fmt: skip
COSTS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("bytes", "bytes sent in the whole run, all sites, down and up", formats.size),
    ("seconds", "seconds of local training in the whole run, all sites", formats.duration),
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """What is compared: rows of one data set at one scale."""

    dataset: str
    images: int
    sites: int
    participation: float
    rounds: int
    encoder: str

    def holds(self, row: Row) -> bool:
        """Whether the row belongs here. The centralised run has one site, the standalone one no
        participation, an entry that trains nothing no rounds and maybe no network."""
        if (row["dataset"], row["images"]) != (self.dataset, self.images):
            return False
        asked = []
        if not is_centralised(row["recipe"]):
            asked.append("sites")
        if row["recipe"] not in REFERENCES:
            asked.append("participation")
        if row["rounds"]:
            asked += ["rounds", "encoder"]
        return all(row[name] == getattr(self, name) for name in asked)


def write_page(path: Path, rows: Sequence[Row], machine: str, more: str) -> None:
    """Write the page whole or not at all. `machine`: in words; `more`: options not in the rows."""
    write_atomic(path, render(rows, machine, more).encode())


def render(rows: Sequence[Row], machine: str, more: str) -> str:
    """The page as HTML."""
    groups = groups_of(rows)
    context = {
        "facts": _facts(rows),
        "machine": machine,
        "groups": [_group(group, groups[0], rows, more) for group in groups],
        "about": _recipes(rows),
        "scores": SCORES,
        "collapsed": COLLAPSED,
        "commits": sorted({row["commit"] for row in rows}),
    }
    return fill(PAGE, STYLE + PLOT_STYLE + PAGE_STYLE, context)


def groups_of(rows: Sequence[Row]) -> list[Group]:
    """The groups in which the rows lie, largest first."""
    full = [r for r in rows if r["rounds"] and r["recipe"] not in REFERENCES] or rows
    found: dict[Group, int] = {}
    for row in full:
        group = Group(*(row[field.name] for field in fields(Group)))
        found[group] = found.get(group, 0) + 1
    return sorted(found, key=lambda group: -found[group])


def _facts(rows: Sequence[Row]) -> list[tuple[str, str]]:
    def several(name: str) -> str:
        return ", ".join(str(v) for v in dict.fromkeys(row[name] for row in rows))

    return [
        ("recipes and references", str(len({row["recipe"] for row in rows}))),
        ("runs", formats.count(len(rows))),
        ("data sets", several("dataset")),
        ("seeds", ", ".join(str(s) for s in sorted({row["seed"] for row in rows}))),
        ("local training", formats.duration(sum(row["seconds"] for row in rows))),
    ]


def _title(group: Group, first: Group) -> str:
    """The data set, and in what the group differs from the first."""
    differs = [n for n in ("images", "sites", "rounds") if getattr(group, n) != getattr(first, n)]
    return ", ".join([group.dataset, *(f"{getattr(group, name):,} {name}" for name in differs)])


def _group(group: Group, first: Group, rows: Sequence[Row], more: str) -> dict[str, Any]:
    inside = [row for row in rows if group.holds(row)]
    names = {row["partition"] for row in inside if not is_centralised(row["recipe"])} or {"iid"}
    partitions = sorted(names, key=lambda name: (name != "iid", name))
    of = {
        name: [r for r in inside if r["partition"] == name or is_centralised(r["recipe"])]
        for name in partitions
    }
    tables = [_table(name, of[name], group) for name in partitions]
    seeds = sorted({row["seed"] for row in inside})
    steps = [r["local_steps"] for r in inside if r["rounds"] and r["recipe"] not in REFERENCES]
    return {
        "title": _title(group, first),
        "scale": f"{group.images:,} images, {group.sites} sites, {group.rounds} rounds, "
        f"{_range(steps)} local steps a site in the whole run, encoder {group.encoder}, "
        f"{100 * group.participation:g} % of the sites in a round",
        "command": _command(group, partitions, seeds, more),
        "seeds": len(seeds),
        "overview": _overview(of, len(seeds)),
        "tables": tables,
    }


def _range(values: Sequence[int]) -> str:
    low, high = (min(values), max(values)) if values else (0, 0)
    return formats.count(low) if low == high else f"{low:,} to {high:,}"


def _command(group: Group, partitions: Sequence[str], seeds: Sequence[int], more: str) -> list[str]:
    """In parts that are not broken."""
    names = ("images", "sites", "rounds", "encoder", "participation")
    return [
        f"python benchmarks/methods.py --datasets {group.dataset}",
        f"--partitions '{','.join(partitions)}'",
        f"--seeds {','.join(map(str, seeds))}",
        *(f"--{name} {getattr(group, name)}" for name in names),
        *(f"--{part}" for part in more.removeprefix("--").split(" --") if part),
    ]


def _by_entry(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["recipe"], []).append(row)
    return dict(sorted(found.items(), key=lambda item: -mean(item[1], "nmi")))


def mean(rows: Sequence[Row], name: str) -> float:
    """Of a column."""
    return statistics.fmean(row[name] for row in rows)


def deviation(rows: Sequence[Row], name: str) -> float | None:
    """Of a column, over the seeds (of a sample); None for a single one."""
    return statistics.stdev(row[name] for row in rows) if len(rows) > 1 else None


def _overview(of: Mapping[str, Sequence[Row]], seeds: int) -> dict[str, Any]:
    """NMI of every entry on every partition, best mean first."""
    columns = {partition: _by_entry(rows) for partition, rows in of.items()}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    means = {
        partition: {name: mean(rows, "nmi") for name, rows in column.items()}
        for partition, column in columns.items()
    }
    ranks = sorted(value for column in means.values() for value in column.values())
    lines = []
    for name in names:
        cells = [
            _cell(name, means[partition], len(column.get(name, ())), seeds, ranks)
            for partition, column in columns.items()
        ]
        values = [column[name] for column in means.values() if name in column]
        whole = len(values) == len(of)
        average = statistics.fmean(values)
        lines.append(
            {
                "name": name,
                "reference": name in REFERENCES,
                "cells": cells,
                "mean": formats.score(average) if whole else formats.NONE,
                "place": (not whole, -average),
            }
        )
    return {"partitions": list(of), "lines": sorted(lines, key=lambda one: one["place"])}


def _cell(
    name: str, column: Mapping[str, float], seeds: int, most: int, ranks: Sequence[float]
) -> dict[str, Any] | None:
    """An entry's NMI on one partition, shaded by its place among all; None where it did not run."""
    if name not in column:
        return None
    ranked = [round(value, 3) for one, value in column.items() if one not in REFERENCES]
    return {
        "text": formats.score(column[name]),
        "share": round(0.5 * bisect_left(ranks, column[name]) / max(1, len(ranks) - 1), 3),
        "few": f"{seeds} of {most} seeds" if seeds < most else "",
        "best": name not in REFERENCES and round(column[name], 3) == max(ranked),
    }


def _table(partition: str, rows: Sequence[Row], group: Group) -> dict[str, Any]:
    entries = _by_entry(rows)
    ranked = [name for name in entries if name not in REFERENCES]
    best = {
        key: max((round(mean(entries[name], key), 3) for name in ranked), default=None)
        for key, _ in SCORES
    }
    lines = []
    for name, same in entries.items():
        reference = name in REFERENCES
        scores = [
            {
                "text": formats.score(mean(same, key)),
                "spread": "" if (s := deviation(same, key)) is None else f"±{formats.score(s)[1:]}",
                "best": not reference and round(mean(same, key), 3) == best[key],
            }
            for key, _ in SCORES
        ]
        lines.append(
            {
                "rank": "" if reference else str(ranked.index(name) + 1),
                "name": name,
                "reference": REFERENCES.get(name, ""),
                "scores": scores,
                "std": formats.score(mean(same, "std")),
                "collapsed": not mean(same, "std") >= COLLAPSED,
                "sent": formats.NONE if reference else formats.size(mean(same, "bytes")),
                "seconds": formats.duration(mean(same, "seconds")),
                "steps": formats.count(mean(same, "local_steps")),
                "seeds": len(same),
            }
        )
    return {"partition": partition, "lines": lines, "plots": _plots(entries, partition, group)}


def _plots(
    entries: Mapping[str, Sequence[Row]], partition: str, group: Group
) -> list[dict[str, Any]]:
    levels = [Level(n, mean(entries[n], "nmi")) for n in REFERENCES if n in entries]
    plots = []
    for key, name, written in COSTS:
        points = [
            Entry(n, mean(same, key), mean(same, "nmi"), deviation(same, "nmi") or 0.0)
            for n, same in entries.items()
            if n not in REFERENCES
        ]
        if not points:
            continue
        svg = pareto(
            points,
            levels,
            label=f"NMI against {key} on {group.dataset}, {partition}",
            x_name=f"{name} (logarithmic)",
            y_name="NMI",
            written=lambda value, written=written: formats.mark(written(value)),
        )
        plots.append({"title": f"NMI against {key}", "svg": svg})
    return plots


def _recipes(rows: Sequence[Row]) -> list[dict[str, str]]:
    """What each entry is."""
    about = []
    for name in dict.fromkeys(row["recipe"] for row in rows):
        if name in REFERENCES:
            runs = f"recipe {Cell.recipe_of(name)}"
            title, rest = REFERENCES[name], ("reference", "nothing", runs)
        else:
            try:
                one = recipes.load(Cell.recipe_of(name))
            except UserError:
                continue  # a recipe that was renamed since
            given = CONTROLS[name][1] if name in CONTROLS else {}
            title = "; ".join([one.title, *(f"{key} {value}" for key, value in given.items())])
            rest = (one.family, one.shared, one.source)
        about.append(
            {"name": name, "title": title}
            | dict(zip(("family", "shared", "source"), rest, strict=True))
        )
    return about
