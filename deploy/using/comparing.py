"""`covey compare`: runs side by side: the settings that differ, the figures, what they cost."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from common.pages.palette import PALETTE
from common.pages.template import fill
from common.record.metrics import FIGURES, Metric
from common.record.reader import RunRecord, read_run
from common.utils.errors import UserError
from deploy.terminal.table import show_table
from server.report import accounts, formats
from server.report.headline import labelled, planned_rounds, planned_stages, written

UNTOLD = ("recipe", "stages", "device")  # of a plan: told elsewhere, or no part of the method
MARK = "*"


@dataclass(frozen=True)
class Row:
    """A line: what, its value in each run, whether it is the best of them, and what it means."""

    name: str
    values: tuple[str, ...]
    best: tuple[bool, ...]
    about: str = ""


@dataclass(frozen=True)
class Comparison:
    """Runs by name, and what is said of them, in groups of lines."""

    runs: tuple[str, ...]
    groups: tuple[tuple[str, tuple[Row, ...]], ...]


def read(folders: Sequence[Path]) -> list[tuple[str, RunRecord]]:
    """The runs by the shortest names that tell them apart; `UserError` for fewer than two, and
    where a folder holds none."""
    if len(folders) < 2:
        raise UserError("compare: give two runs or more")
    records = [read_run(folder) for folder in folders]
    names = [folder.absolute().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return list(zip(names, records, strict=True))


def compare(runs: Sequence[tuple[str, RunRecord]]) -> Comparison:
    """What tells the runs apart."""
    records = [record for _, record in runs]
    groups = (
        ("Settings that differ", tuple(_settings(records))),
        ("Figures of the last stage", tuple(_figures(records))),
        ("What it took", tuple(_costs(records))),
    )
    return Comparison(tuple(name for name, _ in runs), tuple(g for g in groups if g[1]))


def _settings(records: Sequence[RunRecord]) -> list[Row]:
    plans = [{"recipe": record.run.recipe, **_flat(record)} for record in records]
    names = list(dict.fromkeys(name for plan in plans for name in plan))
    rows = []
    for name in names:
        values = tuple(plan.get(name, formats.NONE) for plan in plans)
        if len(set(values)) > 1:
            rows.append(Row(name, values, (False,) * len(values)))
    return rows


def _flat(record: RunRecord) -> dict[str, str]:
    """Every option of a run by name, those of a stage with its number, as text."""
    found = {k: _text(v) for k, v in record.run.plan.items() if k not in UNTOLD}
    for number, stage in enumerate(planned_stages(record), start=1):
        for name, value in stage.items():
            if isinstance(value, Mapping):
                found |= {f"stage {number}: {k}": _text(v) for k, v in value.items()}
            else:
                found[f"stage {number}: {name}"] = _text(value)
    if record.run.follow_up:
        found["asked"] = record.run.follow_up.text
    found["images of the sites"] = formats.count(_images(record))
    prints = sorted(site.fingerprint or "" for site in record.run.sites.values())
    found["fingerprint of all images"] = hashlib.sha256("".join(prints).encode()).hexdigest()[:12]
    return found


def _text(value: Any) -> str:
    return formats.NONE if value in ("", None) else str(value)


def _images(record: RunRecord) -> int:
    return sum(site.examples for site in record.run.sites.values())


def _figures(records: Sequence[RunRecord]) -> list[Row]:
    last = [record.stages[-1].figures if record.stages else {} for record in records]
    shown = [m for m in FIGURES.values() if any(formats.is_number(f.get(m.key)) for f in last)]
    rows = [_figure(metric, [figures.get(metric.key) for figures in last]) for metric in shown]
    if any(record.run.classes for record in records):
        rows += _behind(records)
    return rows


def _figure(metric: Metric, values: Sequence[float | None]) -> Row:
    numbers = [v for v in values if formats.is_number(v)]
    best: float | None = None
    if len(numbers) > 1 and metric.better != "neither" and len(set(numbers)) > 1:
        best = max(numbers) if metric.better == "higher" else min(numbers)
    texts = tuple(written(metric, value) for value in values)
    return Row(
        metric.title, texts, tuple(v is not None and v == best for v in values), metric.about
    )


def _behind(records: Sequence[RunRecord]) -> list[Row]:
    """From how many images the figures with labels are, and what one cluster for all would get."""
    found = [labelled(record) for record in records]
    counted = [None if each is None else each[0] for each in found]
    largest = [None if each is None else each[1] for each in found]
    nobody = (False,) * len(records)
    rows = [
        Row(
            "images with labels",
            tuple(formats.count(n) for n in counted),
            nobody,
            "How many images the figures from labels were counted over.",
        ),
        Row(
            "largest class",
            tuple(formats.score(share) for share in largest),
            nobody,
            "Its share of those images: what one cluster for everything gets as ACC.",
        ),
    ]
    if any(each.pixels for each in records):
        nmi = [each.pixels.figures.get("nmi") if each.pixels else None for each in records]
        about = "What clusters without any learning get, where the images are on this machine."
        texts = tuple(map(formats.score, nmi))
        rows.append(Row("NMI of k-means on pixels", texts, nobody, about))
    return rows


def _costs(records: Sequence[RunRecord]) -> list[Row]:
    told: dict[str, Callable[[RunRecord], str]] = {
        "status": lambda record: record.run.status,
        "sites": lambda record: formats.count(len(record.run.sites)),
        "rounds done": lambda record: f"{len(record.rounds)} of {planned_rounds(record)}",
        "bytes, both ways": _sent,
        "seconds at the server": lambda r: formats.duration(accounts.total_seconds(r) or None),
        "numbers in the model": lambda record: formats.count(record.run.parameters),
    }
    rows = []
    for name, tell in told.items():
        values = tuple(map(tell, records))
        rows.append(Row(name, values, (False,) * len(values)))
    return rows


def _sent(record: RunRecord) -> str:
    simulated = " (simulated)" if accounts.is_simulated(record) else ""
    return f"{formats.size(accounts.total_bytes(record) or None)}{simulated}"


def show(comparison: Comparison, console: Console) -> None:
    """As tables in the terminal; the best of a line has a star."""
    for title, rows in comparison.groups:
        lines = []
        for row in rows:
            marked = zip(row.values, row.best, strict=True)
            lines.append((row.name, *(f"{v}{MARK}" if best else v for v, best in marked)))
        show_table(console, ("", *comparison.runs), lines, title=title, numbers=comparison.runs)
    console.print(f"{MARK} the best of the line, where it has one", style="dim", highlight=False)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The same for programs: group -> line -> run -> value."""
    return {
        title: {row.name: dict(zip(comparison.runs, row.values, strict=True)) for row in rows}
        for title, rows in comparison.groups
    }


def page(comparison: Comparison) -> str:
    """As a page that loads nothing and runs nothing."""
    return fill(PAGE, PALETTE + STYLE, {"runs": comparison.runs, "groups": comparison.groups})


STYLE = """\
body { margin: 0 auto; padding: 36px 32px 48px; max-width: 1180px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums lining-nums; }
h1 { margin: 10px 0 26px; font-size: 34px; letter-spacing: -.02em; }
h2 { margin: 30px 0 12px; font-size: 20px; }
.brand { margin: 0; font-weight: 650; color: var(--accent); }
.card { padding: 8px 18px 12px; border: 1px solid var(--rule); border-radius: 10px;
  background: var(--card); overflow-x: auto; }
table { width: 100%; table-layout: fixed; border-collapse: collapse; font-size: 14px; }
th, td { padding: 7px 14px 7px 0; text-align: right; vertical-align: baseline; }
th:first-child { width: 36%; text-align: left; font-weight: 400; color: var(--muted); }
thead th { overflow-wrap: anywhere; font-weight: 620; }
tbody tr { border-top: 1px solid var(--rule); }
td { overflow-wrap: anywhere; }
td.best { font-weight: 700; color: var(--accent); }
small { display: block; font-size: 12.5px; color: var(--muted); }
@media (max-width: 600px) {
  body { padding: 20px 14px; }
  small { display: none; }
  table { table-layout: auto; }
  td, thead th { white-space: nowrap; overflow-wrap: normal; }
  th:first-child { width: auto; }
}
"""
PAGE = """\
{% set page_title = (runs | length) ~ " runs compared" %}
{% include "head" +%}
<body>
<p class="brand">Covey</p>
<h1>{{ runs | length }} runs compared</h1>
{% for title, rows in groups %}
<h2>{{ title }}</h2>
<div class="card">
<table>
  <thead><tr><th></th>{% for run in runs %}<th>{{ run }}</th>{% endfor %}</tr></thead>
  <tbody>
  {% for row in rows %}
  <tr><th scope="row">{{ row.name }}{% if row.about %}<small>{{ row.about }}</small>{% endif %}</th>
    {% for value in row["values"] %}
    <td{{ ' class="best"' | safe if row.best[loop.index0] }}>{{ value }}</td>
    {% endfor %}</tr>
  {% endfor %}
  </tbody>
</table>
</div>
{% endfor %}
</body>
</html>
"""
