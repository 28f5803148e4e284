"""What a run was told: the settings that matter first, its versions, and the command that repeats
it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from common.config import recipes
from common.config.encoder import DIGEST
from common.config.options import RUN_OPTIONS, STAGE_OPTIONS
from common.record.reader import RunRecord
from common.utils.errors import UserError
from server.report import formats
from server.report.headline import planned_stages

IMAGES = ("colours", "fit", "window", "background", "pages", "largest", "copies")
PRETRAINED = ("weights", "encoder-side", "encoder-crop", "train-from")
"""Both are shown only where they are not at the default."""
DIGITS = 12  # of a file's digest that are shown
FIRST = (
    "dataset", "images", "side", *IMAGES, "sites", "alone", "partition", "size-skew", "seed",
    "encoder", *PRETRAINED, "views", "clusters", "normalisation", "head-normalisation", "batchnorm",
    "participation", "quorum", "deadline", "min-count", "evaluation-share", "precision",
)  # fmt: skip
MAIN = ("dataset", "images", "sites", "partition", "seed", "encoder", *PRETRAINED)
STAGE = (
    "objective", "solver", "rounds", "local-epochs", "batch-size", "learning-rate", "weight-decay",
    "contrastive-weight", "clusters-from", "embedding", "parameters",
)  # fmt: skip
OTHER = tuple(name for name in STAGE_OPTIONS if name not in STAGE)
"""Shown only where a stage has another value than the default."""
ZEROES = {
    "images": "all",
    "side": "as they are",
    "alone": "all sites",
    "size-skew": "equal sizes",
    "clusters": "as many as classes",
}
COMMANDS = {
    "in-process": ("covey", "simulate"),
    "ray": ("covey", "simulate", "--engine", "ray"),
    "server": ("covey", "submit"),
}


def settings(record: RunRecord) -> list[tuple[str, str]]:
    """The plan's options that hold for the whole run, as (name, value)."""
    plan = record.run.plan
    quiet = {name for name in (*IMAGES, *PRETRAINED) if plan.get(name) == _default(name)}
    shown = [name for name in FIRST if name in plan and name not in quiet]
    rows = [(name, _told(name, plan[name])) for name in shown]
    if record.run.partition:
        rows.append(("partition hash", record.run.partition.hash[:12]))
    rows.append(("model", f"{formats.count(record.run.parameters)} numbers"))
    return rows


def _default(name: str) -> Any:
    return RUN_OPTIONS[name].default


def _told(name: str, value: Any) -> str:
    """As people say it."""
    if name in ZEROES and value == 0:
        return ZEROES[name]
    if name == "weights" and DIGEST.fullmatch(str(value)):
        return f"SHA-256 {str(value)[:DIGITS]}…"
    return f"{_value(value)} s" if name == "deadline" else _value(value)


def stage_settings(record: RunRecord) -> list[tuple[str, list[str]]]:
    """The stages' options as (name, one value per stage); those that no stage has, or of the rarer
    ones that all have at the default, are left out."""
    stages = planned_stages(record)
    return [
        (name, [_value(stage.get(name)) or formats.NONE for stage in stages])
        for name in (*STAGE, *OTHER)
        if any(stage.get(name) not in _untold(name) for stage in stages)
    ]


def _untold(name: str) -> tuple[Any, ...]:
    return (None, {}, STAGE_OPTIONS[name].default) if name in OTHER else (None, {}, "")


def versions(record: RunRecord) -> list[tuple[str, str]]:
    """Software that decided the result, Covey first."""
    found = record.run.versions
    return sorted(found.items(), key=lambda pair: (pair[0] != "covey", pair))


def command(record: RunRecord) -> list[str]:
    """The command line that repeats the run, option by option: the recipe, and every option that is
    not as the recipe says; the main options where the recipe is not one of ours. Of a run that
    answers a question to another one, the question."""
    if record.run.follow_up is not None:
        server = ["--server DIR"] if record.run.engine == "server" else []
        return [*record.run.follow_up.command, *server]
    plan = record.run.plan
    recipe = record.run.recipe
    start = [*COMMANDS.get(record.run.engine, ("covey", "run")), recipe]
    names: Sequence[str] = FIRST
    try:
        usual = recipes.load(recipe).plan().model_dump(mode="json", by_alias=True)
    except UserError:
        usual, names = {name: _default(name) for name in PRETRAINED}, MAIN
    options = {name: plan[name] for name in ("dataset", "seed") if name in plan}
    options |= {n: plan[n] for n in (*names, "device") if n in plan and plan[n] != usual.get(n)}
    options |= _stage_options(planned_stages(record), usual.get("stages", []))
    if record.run.engine == "server":  # the images are the sites' own
        options = {n: v for n, v in options.items() if n not in ("dataset", "partition")}
    given = [shlex.join([f"--{name}", _value(value)]) for name, value in options.items()]
    return [shlex.join(start), *given]


def _stage_options(stages: list[dict[str, Any]], usual: list[dict[str, Any]]) -> dict[str, str]:
    """Options of the stages that differ from the recipe's: one value, or one per stage."""
    if len(stages) != len(usual):
        return {}
    found = {}
    for name in (*STAGE, *OTHER):
        values = [stage.get(name) for stage in stages]
        expected = [stage.get(name) for stage in usual]
        if name == "parameters":
            values = [_added(v, e) for v, e in zip(values, expected, strict=True)]
            expected = [{} for _ in usual]
        if values != expected and any(value != "" for value in values):
            texts = [_value(value) for value in values]
            found[name] = texts[0] if len(set(texts)) == 1 else ",".join(texts)
    return found


def _added(given: Any, usual: Any) -> dict[str, Any]:
    known = usual if isinstance(usual, dict) else {}
    items = given.items() if isinstance(given, dict) else ()
    return {k: v for k, v in items if k not in known or known[k] != v}


def _value(value: Any) -> str:
    """As it would be typed on the command line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, Mapping):
        return " ".join(f"{k}={_value(v)}" for k, v in value.items())
    return formats.NONE if value is None else str(value)
