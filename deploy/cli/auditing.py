"""`covey audit-forgetting`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deploy.cli.app import App
from deploy.cli.completion import complete_run
from deploy.cli.json_option import JsonOption, write_json

console = Console()
USUAL = 3  # runs without the data: two alone are calibrated by one another


def audit_command(
    original: Annotated[
        Path,
        typer.Argument(
            metavar="ORIGINAL", help="the run that had the images", autocompletion=complete_run
        ),
    ],
    forgotten: Annotated[
        Path,
        typer.Argument(
            metavar="FORGOTTEN", help="the run made in its place", autocompletion=complete_run
        ),
    ],
    references: Annotated[
        int,
        typer.Option(
            min=2, help="runs without the data to compare with, under other seeds", metavar="COUNT"
        ),
    ] = USUAL,
    json_file: JsonOption = None,
) -> None:
    """Test whether a run has forgotten what it was made to: attacks, figures, bits, cost.

    The images must be on this machine: `covey run` and `covey simulate`.
    """
    write_json(json_file, audited(original, forgotten, references))


def audited(original: Path, forgotten: Path, references: int = USUAL) -> dict[str, Any]:
    """Audit, show what was found, write the report into the forgotten run's folder; the figures."""
    from deploy.audit.audit import audit  # noqa: PLC0415 (torch)
    from deploy.audit.report import as_json, write_report  # noqa: PLC0415
    from deploy.audit.table import show  # noqa: PLC0415

    found = audit(original, forgotten, references, _say)
    show(found, console)
    _say(f"report: {write_report(found, forgotten)}")
    return as_json(found)


def add_to(app: App, panel: str) -> None:
    """Make it a command of `app`."""
    app.command("audit-forgetting", rich_help_panel=panel)(audit_command)


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
