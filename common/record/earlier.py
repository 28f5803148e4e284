"""Records of earlier formats, raised to today's.

Covey 0.1 wrote no format; a stage's figures stood beside its other facts. A plan of any version
gets the options that have come since, at their defaults (`common/config/` knows their old names).
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from common.config.options import Plan
from common.record.metrics import FIGURES
from common.record.schema import FORMAT
from common.utils.errors import UserError

Document = Mapping[str, Any]


def run_of_today(document: Document) -> dict[str, Any]:
    """`run.json` of any format up to today's, in today's; `UserError` for a later one."""
    run = _raised(document, dict)
    if isinstance(run.get("plan"), dict):
        run["plan"] = _plan_of_today(run["plan"])
    return run


def event_of_today(document: Document) -> dict[str, Any]:
    """A line of `metrics.jsonl` of any format up to today's, in today's; `UserError` for a later
    one."""
    return _raised(document, _first_event)


def _raised(document: Document, first: Callable[[Document], dict[str, Any]]) -> dict[str, Any]:
    written = document.get("format")
    if written is None:
        return {"format": FORMAT, **first(document)}
    if isinstance(written, int) and written > FORMAT:
        raise UserError(f"format {written} is of a later Covey, this one reads {FORMAT}")
    return dict(document)


def _plan_of_today(plan: dict[str, Any]) -> dict[str, Any]:
    """As it stands where it is none of today's: a report can still be made of it."""
    try:
        settled = Plan.from_json(json.dumps(plan))
    except UserError:
        return plan
    return settled.model_dump(mode="json", by_alias=True)


def _first_event(document: Document) -> dict[str, Any]:
    if document.get("event") != "stage":
        return dict(document)
    figures = {name: value for name, value in document.items() if name in FIGURES}
    rest = {name: value for name, value in document.items() if name not in FIGURES}
    return {**rest, "figures": figures}
