"""`covey audit-forgetting`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deploy.cli.app import App
from deploy.cli.asking import say
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
    server: Annotated[
        Path | None,
        typer.Option(
            help="the folder of the running server, for runs over sites that have joined it: they "
            "run again without the images, and look for these themselves",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Test whether a run has forgotten what it was made to: attacks, figures, bits, cost."""
    if server is None:
        write_json(json_file, audited(original, forgotten, references))
        return
    write_json(json_file, audited_served(server, original, forgotten, references))


def audited(original: Path, forgotten: Path, references: int = USUAL) -> dict[str, Any]:
    """Audit, show what was found, write the report into the forgotten run's folder; the figures."""
    from deploy.audit.audit import audit  # noqa: PLC0415 (torch)
    from deploy.audit.report import as_json, write_report  # noqa: PLC0415
    from deploy.audit.table import show  # noqa: PLC0415

    found = audit(original, forgotten, references, say)
    show(found, console)
    say(f"report: {write_report(found, forgotten)}")
    return as_json(found)


def audited_served(
    server: Path, original: Path, forgotten: Path, references: int = USUAL
) -> dict[str, Any]:
    """The same over a server's sites, which are asked."""
    from deploy.audit.report import as_json, write_report  # noqa: PLC0415 (torch)
    from deploy.audit.served import audit_served, clear, pair_of  # noqa: PLC0415
    from deploy.audit.table import show  # noqa: PLC0415
    from deploy.coordinator.folder import ServerFolder  # noqa: PLC0415
    from deploy.coordinator.run_list import find  # noqa: PLC0415

    folder = ServerFolder(server.absolute())
    pair = pair_of(*(find(folder, str(run)) for run in (original, forgotten)))
    found = audit_served(folder, pair, references, console, say)
    show(found, console)
    say(f"report: {write_report(found, pair.forgotten)}")
    clear(pair)
    return as_json(found)


def cost_of(served: bool = False, references: int = USUAL) -> str:
    """What an audit takes, to be said before."""
    if not served:
        return f"then an audit: {references + 1} runs without the images, from their beginning"
    return (
        f"then an audit: the sites run again {references + 1} times without the images, and look "
        "for them where they let them be looked at"
    )


def add_to(app: App, panel: str) -> None:
    """Make it a command of `app`."""
    app.command("audit-forgetting", rich_help_panel=panel)(audit_command)
