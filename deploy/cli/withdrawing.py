"""`covey client forget` and `remember`: what a site says of its images; imported when asked for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.app import App, about
from deploy.cli.asking import YesOption, confirm, say
from deploy.cli.forgetting import ClusterOption

if TYPE_CHECKING:
    from deploy.forgetting.choosing import Wish

FilesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILES]...",
        help="images: paths, names as in assignments.csv, or numbers of an .npz",
        show_default=False,
    ),
]
ListOption = Annotated[
    Path | None,
    typer.Option(
        "--list", help="a text file with such names, one a line", metavar="FILE", show_default=False
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="all of them")]
SiteFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        help=about("the site's folder", default="covey-site-NAME, if there is one alone"),
        metavar="WORK",
        show_default=False,
    ),
]
DataOption = Annotated[
    str,
    typer.Option(
        help=about("of these data", default="those that the site has joined with last"),
        metavar="DATA",
        show_default=False,
    ),
]


def client_forget_command(
    files: FilesArgument = None,
    listed: ListOption = None,
    cluster: ClusterOption = None,
    everything: AllOption = False,
    run: Annotated[
        str,
        typer.Option(
            help=about("whose clusters are meant", default="that of the last model.covey"),
            metavar="RUN",
            show_default=False,
        ),
    ] = "",
    folder: SiteFolderOption = None,
    data: DataOption = "",
    unlearn: Annotated[
        bool,
        typer.Option(
            "--may-unlearn",
            help="they may be used once more, here, by a method that unlearns them (covey forget "
            "--method)",
        ),
    ] = False,
    audit: Annotated[
        bool,
        typer.Option(
            "--may-audit",
            help="they may be looked at once more, here, to test whether they were forgotten "
            "(covey forget --audit)",
        ),
    ] = False,
    yes: YesOption = False,
) -> None:
    """Take images back: they are in no run any more."""
    from deploy.site.status import pick_folder  # noqa: PLC0415
    from deploy.site.withdrawing import to_forget  # noqa: PLC0415

    wish = _wish(files, listed, cluster, everything)
    withdrawing = to_forget(pick_folder(folder), wish, run, data, unlearn, audit)
    confirm(withdrawing.lines(), yes)
    new = withdrawing.exclusions.add(withdrawing.images, withdrawing.why, unlearn, audit)
    say(f"asked: {new:,} images are in no run from the next message on")
    say(f"noted by digest in {withdrawing.exclusions.path}; covey client remember lets them in")
    say("what was learned with them before: ask the coordinator for `covey forget RUN`")


def client_remember_command(
    files: FilesArgument = None,
    listed: ListOption = None,
    everything: AllOption = False,
    folder: SiteFolderOption = None,
    data: DataOption = "",
    yes: YesOption = False,
) -> None:
    """Let images take part again that were taken back."""
    from client.storage.exclusions import Exclusions  # noqa: PLC0415
    from deploy.site.status import pick_folder  # noqa: PLC0415
    from deploy.site.withdrawing import to_remember  # noqa: PLC0415

    home = pick_folder(folder)
    images = to_remember(home, _wish(files, listed, None, everything), data)
    confirm([f"let in again: {len(images):,} images, into every run from then on"], yes)
    say(f"{Exclusions(home.path).remove(images):,} images take part again")


def _wish(
    files: list[str] | None, listed: Path | None, cluster: int | None, everything: bool
) -> "Wish":
    from deploy.forgetting.choosing import Wish, read_list  # noqa: PLC0415

    names = (*(files or ()), *(read_list(listed) if listed else ()))
    return Wish(names, cluster, everything)


def add_to(client_app: App) -> None:
    """Make them commands of a site's app."""
    client_app.command("forget")(client_forget_command)
    client_app.command("remember")(client_remember_command)
