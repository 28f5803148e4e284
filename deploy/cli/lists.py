"""`covey recipes`, `covey datasets` and `covey encoders`: what there is."""

from typing import Annotated

import typer
from rich.console import Console

from deploy.cli.app import App
from deploy.cli.json_option import JsonOption, write_json

console = Console()


def add_to(app: App, panel: str) -> None:
    """Add the commands to `app`."""
    app.command("recipes", rich_help_panel=panel)(recipes)
    app.command("datasets", rich_help_panel=panel)(datasets)
    app.command("encoders", rich_help_panel=panel)(encoders)


def recipes(
    everything: Annotated[
        bool,
        typer.Option("--all", help="all of them, what their sites share, the published protocols"),
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """List the recipes: those to start with, or all."""
    from deploy.cli.recipes import list_recipes  # noqa: PLC0415

    write_json(json_file, list_recipes(console, everything))


def datasets(json_file: JsonOption = None) -> None:
    """List the data sets, and which of them are on this machine."""
    from deploy.cli.datasets import list_datasets  # noqa: PLC0415

    write_json(json_file, list_datasets(console))


def encoders(
    find: Annotated[
        str, typer.Option(help="only the names of all networks that hold this text", metavar="TEXT")
    ] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="without what an image takes on this machine")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """List the encoders, and whose weights are on this machine."""
    from deploy.cli.encoders import find_encoders, list_encoders  # noqa: PLC0415

    write_json(json_file, find_encoders(console, find) if find else list_encoders(console, quick))
