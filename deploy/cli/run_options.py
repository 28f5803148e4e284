"""The run options as command-line options, made from `common/config/options.py` so that a name, its
help and its default stand in one place."""

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from common.config.options import RUN_OPTIONS, STAGE_OPTIONS
from deploy.cli.app import about
from deploy.cli.completion import offer

PANELS = {
    "Run (a recipe may set other defaults)": RUN_OPTIONS,
    "Stage (one value, or one per stage: 8,4)": STAGE_OPTIONS,
}
PLACES = re.compile(r" \(`[\w/.]+`\)")  # in the code: not for who types commands
SHORT = 22  # characters: a list of values that is longer stands in the help
KINDS = {int: "INT", float: "FLOAT"}


def with_run_options(
    command: Callable[..., None],
    refused: Collection[str] = (),
    otherwise: Mapping[str, tuple[str, str]] | None = None,
) -> Callable[..., None]:
    """Add every run option to a typer command. The command takes them as `options`: name -> text
    of those that were given. `refused` are not shown: the command says why it does not take them;
    `otherwise`: name -> (help, default) where they are the command's own."""
    own = inspect.signature(command)
    added = {
        name.replace("-", "_"): _parameter(name, field, panel, refused, otherwise or {})
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


def _parameter(
    name: str,
    field: Any,
    panel: str,
    refused: Collection[str],
    otherwise: Mapping[str, tuple[str, str]],
) -> inspect.Parameter:
    default = "" if field.is_required() or callable(field.default_factory) else field.default
    text, shown = otherwise.get(name, (field.description, str(default)))
    values = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    metavar = "|".join(values) or KINDS.get(field.annotation, "TEXT")
    if len(metavar) > SHORT:
        text, metavar = f"{text}; one of {', '.join(values)}", "NAME"
    option = typer.Option(
        f"--{name}",
        help=about(PLACES.sub("", text), shown),
        metavar=metavar,
        rich_help_panel=panel,
        show_default=False,
        hidden=name in refused,
        autocompletion=offer(name, values),
    )
    return inspect.Parameter(
        name.replace("-", "_"),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, option],
    )
