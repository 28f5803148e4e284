"""`covey split` and `covey choose-k`: more of a finished run's clusters; the work is imported when
it is asked for."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from common.utils.errors import UserError
from deploy.cli.app import App
from deploy.cli.arguments import RunArgument
from deploy.cli.json_option import JsonOption, write_json

if TYPE_CHECKING:
    from common.record.follow_up import FollowUp

console = Console()
RANGE = re.compile(r"(\d{1,4}):(\d{1,4})")
MOST = 100  # clusters of a range: two clusterings of each number travel together

ServerOption = Annotated[
    Path | None,
    typer.Option(
        help="the folder of the running server, for a run over sites that have joined it",
        metavar="DIR",
        show_default=False,
    ),
]


def split_command(
    run: RunArgument,
    cluster: Annotated[
        int, typer.Option(help="the number of the cluster", min=0, metavar="K", show_default=False)
    ],
    into: Annotated[int, typer.Option(help="parts", min=2, max=64, metavar="PARTS")] = 2,
    server: ServerOption = None,
    json_file: JsonOption = None,
) -> None:
    """Take one cluster of a finished run apart, over its sites: a new run with a new model."""
    from common.record.follow_up import FollowUp  # noqa: PLC0415

    asked = FollowUp(of=run.name or "run", kind="split", cluster=cluster, parts=into)
    write_json(json_file, _follow(run, asked, server))


def choose_k_command(
    run: RunArgument,
    tried: Annotated[
        str, typer.Option("--range", help="numbers of clusters to try", metavar="LOW:HIGH")
    ] = "2:30",
    take: Annotated[
        int,
        typer.Option(
            help="end with so many clusters, as a new model; 0: only say how they do",
            min=0,
            metavar="K",
        ),
    ] = 0,
    server: ServerOption = None,
    json_file: JsonOption = None,
) -> None:
    """Say how many clusters a finished run's images have, over its sites."""
    from common.record.follow_up import FollowUp  # noqa: PLC0415

    low, high = _range(tried)
    asked = FollowUp(of=run.name or "run", kind="choose-k", low=low, high=high, take=take)
    if take and not low <= take <= high:
        raise UserError(f"--take {take} is not in the range {tried}")
    write_json(json_file, _follow(run, asked, server))


def _range(text: str) -> tuple[int, int]:
    found = RANGE.fullmatch(text)
    low, high = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 2 <= low <= high <= MOST:
        raise UserError(f"--range {text}: LOW:HIGH, of 2 to {MOST} clusters")
    return low, high


def _follow(run: Path, asked: "FollowUp", server: Path | None) -> dict[str, object]:
    from deploy.questions.following import (  # noqa: PLC0415 (torch)
        follow_here,
        follow_served,
        plan_following,
    )

    if server is None:
        return follow_here(plan_following(run, asked), console)
    from deploy.coordinator.folder import ServerFolder  # noqa: PLC0415
    from deploy.coordinator.run_list import find  # noqa: PLC0415

    folder = ServerFolder(server.absolute())
    return follow_served(folder, plan_following(find(folder, str(run)), asked), console)


def add_to(app: App, panel: str) -> None:
    """Make them commands of `app`."""
    app.command("split", rich_help_panel=panel)(split_command)
    app.command("choose-k", rich_help_panel=panel)(choose_k_command)
