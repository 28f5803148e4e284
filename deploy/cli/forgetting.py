"""`covey forget`: data taken back from a run; the work is imported when it is asked for."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.cli.app import App, about
from deploy.cli.arguments import RunArgument
from deploy.cli.json_option import JsonOption, write_json

console = Console()

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="do it without asking")]
ClusterOption = Annotated[
    int | None,
    typer.Option(
        help="the site's images in this cluster of the run", min=0, metavar="K", show_default=False
    ),
]


def forget_command(
    run: RunArgument,
    site: Annotated[
        str,
        typer.Option(help="the site that takes images back", metavar="NAME", show_default=False),
    ],
    files: Annotated[
        Path | None,
        typer.Option(
            help="a text file with the images' names, one a line, as in assignments.csv",
            metavar="LIST",
            show_default=False,
        ),
    ] = None,
    cluster: ClusterOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="all of the site's images: it takes part no more")
    ] = False,
    method: Annotated[
        str,
        typer.Option(
            help=about(
                "of a recipe that trains: exact-sums or retrain",
                default="exact-sums; of a recipe that trains nothing all is exact",
            ),
            metavar="METHOD",
            show_default=False,
        ),
    ] = "",
    yes: YesOption = False,
    json_file: JsonOption = None,
) -> None:
    """Take images back: a new run without them in the place of RUN."""
    from deploy.engines.runs import conclude  # noqa: PLC0415 (torch)
    from deploy.forgetting.choosing import Wish, read_list  # noqa: PLC0415
    from deploy.forgetting.here import forget_here, plan_here  # noqa: PLC0415

    names = () if files is None else read_list(files)
    wish = Wish(names, cluster, everything)
    forgotten = plan_here(run, site, wish, method)
    confirm(forgotten.lines(), yes)
    folder = forget_here(forgotten, console)
    write_json(json_file, conclude(folder, console))
    say(f"in the place of {run}: {folder}")
    say(f"{run} holds what was learned with them until its folder is deleted")


def confirm(lines: list[str], yes: bool) -> None:
    """Say what is to be done, and ask whether it is; ends the command where not."""
    for line in lines:
        say(line)
    if not yes:
        typer.confirm("go on?", abort=True)


def say(text: str) -> None:
    """Say it as it is, on one line however long."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def add_to(app: App, panel: str) -> None:
    """Make it a command of `app`."""
    app.command("forget", rich_help_panel=panel)(forget_command)
