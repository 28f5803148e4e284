"""A recipe and what its user chose otherwise, settled into a `Plan`."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from common.config.options import RUN_OPTIONS, STAGE_OPTIONS, Plan, one_line, parse_parameters
from common.utils.errors import UserError, unknown


def settle(recipe: str, document: Mapping[str, Any], overrides: Mapping[str, Any]) -> Plan:
    """Settle every option: defaults, then the recipe's `document`, then `overrides`.

    `overrides` maps option names to values; an empty string means "not given". An option of a
    stage takes one value or, as a string with commas, one per stage; one number of rounds is for
    the stages that have any. `UserError` names what is unknown or out of bounds.
    """
    given = {name: value for name, value in overrides.items() if value not in ("", None)}
    for name in given:
        if name not in RUN_OPTIONS and name not in STAGE_OPTIONS:
            raise unknown("option", name, [*RUN_OPTIONS, *STAGE_OPTIONS])
    stages = [dict(stage) for stage in document.get("stages", [])]
    for name in STAGE_OPTIONS.keys() & given.keys():
        chosen = stages
        if name == "rounds" and "," not in str(given[name]):
            chosen = [stage for stage in stages if stage.get("rounds") != 0] or stages
        for stage, value in zip(chosen, _per_stage(name, given[name], len(chosen)), strict=True):
            if name == "parameters":
                stage[name] = {**stage.get(name, {}), **parse_parameters(str(value))}
            else:
                stage[name] = value
    values = {name: document[name] for name in RUN_OPTIONS if name in document}
    values |= {name: value for name, value in given.items() if name in RUN_OPTIONS}
    try:
        return Plan.model_validate({**values, "recipe": recipe, "stages": stages})
    except ValidationError as error:
        raise UserError(one_line(error)) from None


def _per_stage(name: str, value: object, stages: int) -> list[object]:
    if not isinstance(value, str):
        return [value] * stages
    parts: list[object] = [part.strip() for part in value.split(",")]
    if len(parts) == 1:
        return parts * stages
    if len(parts) != stages:
        raise UserError(f"{name}: {len(parts)} values for the recipe's {stages} stages")
    return parts
