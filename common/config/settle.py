"""A recipe and what its user chose otherwise, settled into a `Plan`."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from common.config.earlier import stage_of_today
from common.config.given import parse_parameters
from common.config.options import RUN_OPTIONS, STAGE_OPTIONS, Plan, one_line
from common.utils.errors import UserError, unknown

METHODS = ("objective", "solver")  # of which a stage has one


def settle(recipe: str, document: Mapping[str, Any], overrides: Mapping[str, Any]) -> Plan:
    """Settle every option: defaults, then the recipe's `document`, then `overrides`.

    `overrides` maps option names to values; an empty string means "not given". An option of a
    stage takes one value or, as a string with commas, one per stage; one number of rounds is for
    the stages that have any, one objective or solver for those that have one. `UserError` names
    what is unknown or out of bounds.
    """
    given = {name: value for name, value in overrides.items() if value not in ("", None)}
    for name in given:
        if name not in RUN_OPTIONS and name not in STAGE_OPTIONS:
            raise unknown("option", name, [*RUN_OPTIONS, *STAGE_OPTIONS])
    stages = [stage_of_today(stage) for stage in document.get("stages", [])]
    methods = {name: given.pop(name) for name in METHODS if name in given}
    for stage, method in zip(stages, _methods(stages, methods), strict=True):
        if method:
            stage.update(stage_of_today({name: method.get(name, "") for name in METHODS}))
    for name in STAGE_OPTIONS.keys() & given.keys():
        chosen = stages
        if name == "rounds" and "," not in str(given[name]):
            chosen = [stage for stage in stages if _trains(stage)] or stages
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


def _methods(stages: list[dict[str, Any]], given: Mapping[str, object]) -> list[dict[str, object]]:
    """For each stage the objective or the solver that is `given` for it, if any."""
    chosen: list[dict[str, object]] = [{} for _ in stages]
    for name, value in given.items():
        every = [index for index, stage in enumerate(stages) if stage.get(name)]
        several = isinstance(value, str) and "," in value
        indices = list(range(len(stages))) if several or not every else every
        for index, one in zip(indices, _per_stage(name, value, len(indices)), strict=True):
            if one:
                chosen[index][name] = one
    return chosen


def _trains(stage: Mapping[str, Any]) -> bool:
    return stage.get("rounds") != 0 and not stage.get("solver")


def _per_stage(name: str, value: object, stages: int) -> list[object]:
    if not isinstance(value, str):
        return [value] * stages
    parts: list[object] = [part.strip() for part in value.split(",")]
    if len(parts) == 1:
        return parts * stages
    if len(parts) != stages:
        there = f"{stages} stages" if stages > 1 else "one stage"
        raise UserError(f"{name}: {len(parts)} values for the recipe's {there}")
    return parts
