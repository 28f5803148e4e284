"""The report of a run: one HTML file that stands alone, made from the run folder and nothing else.

It loads nothing, runs no script (its content security policy forbids both) and escapes every text:
names of sites and classes come from others.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from common.config import recipes
from common.pages.template import fill
from common.record.reader import RunRecord, read_run
from common.record.schema import Run
from common.record.stages import worse
from common.utils.errors import UserError
from common.utils.files import write_atomic
from server.report import accounts, figures, formats, headline, settings
from server.report.choice import later
from server.report.page import PAGE
from server.report.style import STYLE

__all__ = ["fill", "render", "write_report"]


def write_report(run_folder: Path, run: Run | None = None) -> Path:
    """Write `report.html` into a run's folder, whole or not at all; its path. `run`: its settings
    as they are about to be written. `UserError` where the folder holds no run."""
    path, record = run_folder / "report.html", read_run(run_folder)
    record = record if run is None else replace(record, run=run)
    write_atomic(path, render(record).encode(errors="backslashreplace"))
    return path


def render(record: RunRecord) -> str:
    """The report as HTML."""
    return fill(PAGE, STYLE, _context(record))


def _context(record: RunRecord) -> dict[str, Any]:
    run = record.run
    sites = accounts.sites(record)
    learning, clusters = figures.learning(record), figures.cluster_figures(record)
    if len(learning) % 2 and clusters and clusters[0].title == figures.SIZES:
        learning.append(clusters.pop(0))  # two columns are filled
    return {
        "id": run.id,
        "recipe": run.recipe,
        "title": _title(run.recipe),
        "status": "superseded" if run.superseded else run.status,
        "superseded": run.superseded,
        "facts": _facts(record, len(sites)),
        "warnings": accounts.warnings(record),
        "headline": headline.headline(record),
        "labels": bool(run.classes),
        "behind": headline.behind_labels(record),
        "worse": worse(record),
        "later": later(record),
        "begun": bool(record.rounds),
        "table": headline.stage_table(record),
        "learning": learning,
        "clusters": clusters,
        "pictures": figures.pictures(record),
        "names": figures.names(record),
        "cost": accounts.cost(record),
        "sites": sites,
        "attendance": accounts.attendance(sites),
        "delivered": record.delivered.text if record.delivered else "",
        "files": accounts.files(record),
        "settings": settings.settings(record),
        "stages": headline.planned_stages(record),
        "stage_settings": settings.stage_settings(record),
        "versions": settings.versions(record),
        "command": settings.command(record),
        "json": run.to_json(),
    }


def _title(recipe: str) -> str:
    try:
        return recipes.load(recipe).title
    except UserError:
        return ""


def _facts(record: RunRecord, sites: int) -> list[tuple[str, str]]:
    """The line under the title: what ran, on how much, for how long."""
    run, plan = record.run, record.run.plan
    images = sum(site.examples for site in run.sites.values())
    done, planned = len(record.rounds), headline.planned_rounds(record)
    rounds = formats.count(planned) if done == planned else f"{done} of {planned}"
    return [
        ("started", formats.moment(run.created)),
        ("data set", str(plan.get("dataset", formats.NONE))),
        ("images", formats.count(images) if images else formats.NONE),
        ("sites", formats.count(sites) if sites else formats.NONE),
        ("partition", str(plan.get("partition", formats.NONE))),
        ("clusters", formats.count(_clusters(record) or None)),
        ("rounds", rounds),
        ("time", formats.duration(accounts.total_seconds(record) or None)),
        (
            "would be sent" if accounts.is_simulated(record) else "sent",
            formats.size(accounts.total_bytes(record) or None),
        ),
        ("seed", str(plan.get("seed", formats.NONE))),
        *([("asked", run.follow_up.text)] if run.follow_up else []),
        *_taken_back(run),
    ]


def _clusters(record: RunRecord) -> Any:
    """How many there are in the end: the plan's number, or what came of it later."""
    planned, last = record.run.plan.get("clusters"), record.stages[-1] if record.stages else None
    is_later = last is not None and last.stage >= len(headline.planned_stages(record))
    return len(last.cluster_sizes) if last is not None and is_later else planned


def _taken_back(run: Run) -> list[tuple[str, str]]:
    """Who has taken back how many images, and which run is in whose place."""
    told = []
    if run.forgetting is not None:
        told.append(("in the place of", run.forgetting.of))
        told.append(("taken back", run.forgetting.counts))
        told.append(("by the method", run.forgetting.method))
    since = {} if run.forgetting is None else run.forgetting.images
    if run.withdrawn != since:
        counts = (f"{name}: {formats.count(count)}" for name, count in run.withdrawn.items())
        told.append(("taken back in all", ", ".join(counts)))
    return told
