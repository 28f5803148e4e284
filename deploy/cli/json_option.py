"""The option `--json` of every command that has figures."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

STANDARD_OUTPUT = Path("-")


def _apart(context: typer.Context, path: Path | None) -> Path | None:
    """With `-`, all but the figures goes to standard error."""
    if path == STANDARD_OUTPUT:
        context.with_resource(contextlib.redirect_stdout(sys.stderr))
    return path


JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="also write the figures to this file; -: to standard output, all else to standard "
        "error",
        metavar="FILE",
        callback=_apart,
    ),
]


def write_json(path: Path | None, figures: object) -> None:
    """Write a command's figures where the user asked for them."""
    if path is None:
        return
    text = json.dumps(figures, indent=2) + "\n"
    if path == STANDARD_OUTPUT:
        assert sys.__stdout__ is not None
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
