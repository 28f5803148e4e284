"""The run options as command-line options, made from `common/config/options.py` so that a name, its
help and its default stand in one place."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from common.config.options import RUN_OPTIONS, STAGE_OPTIONS
from common.utils.errors import UserError

PANELS = {"Run": RUN_OPTIONS, "Stage (one value, or one per stage: 8,4)": STAGE_OPTIONS}


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add every run option to a typer command. The command takes them as `options`: name -> text
    of those that were given."""
    own = inspect.signature(command)
    added = {
        name.replace("-", "_"): _parameter(name, field, panel)
        for panel, fields in PANELS.items()
        for name, field in fields.items()
    }

    @wraps(command)
    def wrapped(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in added}
        options = {n.replace("_", "-"): text for n, text in given.items() if text is not None}
        command(options=options, **arguments)

    kept = [p for p in own.parameters.values() if p.name != "options"]
    wrapped.__signature__ = own.replace(parameters=[*kept, *added.values()])  # type: ignore[attr-defined]
    return wrapped


def _parameter(name: str, field: Any, panel: str) -> inspect.Parameter:
    default = "" if field.is_required() or callable(field.default_factory) else field.default
    shown = "" if default == "" else f" [default: {default}]"
    option = typer.Option(
        f"--{name}",
        help=f"{field.description}{shown}",
        metavar=_metavar(field.annotation),
        rich_help_panel=panel,
        show_default=False,
    )
    return inspect.Parameter(
        name.replace("-", "_"),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, option],
    )


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    return {int: "INT", float: "FLOAT", str: "TEXT"}.get(annotation, "TEXT")


def run_config(recipe: str, options: Mapping[str, str], **extra: str) -> dict[str, str]:
    """A Flower run configuration: strings only, as its overrides are not typed."""
    clash = options.keys() & extra.keys()
    if clash:
        raise UserError(f"option {min(clash)} is set by the command itself")
    return {"recipe": recipe, **options, **extra}
