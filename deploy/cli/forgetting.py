"""`covey forget`: a run without what was taken back; the work is imported when it is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.utils.errors import UserError
from deploy.cli.app import App, about
from deploy.cli.arguments import RunArgument
from deploy.cli.asking import YesOption, confirm, say
from deploy.cli.auditing import audited, audited_served, cost_of
from deploy.cli.json_option import JsonOption, write_json

console = Console()
AT_THE_SITE = (
    "a site's images are its own: `covey client forget` says there which leave; with --server go "
    "--site NAME alone, or --site NAME --all"
)

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
    ] = "",
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
                "of a recipe that trains: exact-sums, fine-tune, not, rollback, retrain; with the "
                "images once more, at their site: gradient-ascent, contrastive-unlearning, "
                "alignment-calibration",
                default="exact-sums; of a recipe that trains nothing all is exact",
            ),
            metavar="METHOD",
            show_default=False,
        ),
    ] = "",
    server: Annotated[
        Path | None,
        typer.Option(
            help="the folder of the running server, for a run over sites that have joined it: the "
            "site says itself what leaves (covey client forget), or leaves with --all",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit", help="then test whether it has forgotten, by runs without the images"
        ),
    ] = False,
    remove: Annotated[
        bool,
        typer.Option(
            "--delete", help="then delete RUN's folder; alone: of a run that is superseded"
        ),
    ] = False,
    yes: YesOption = False,
    json_file: JsonOption = None,
) -> None:
    """Take images back: a new run without them in the place of RUN."""
    from deploy.audit.audit import check_audited  # noqa: PLC0415 (torch)
    from deploy.engines.runs import conclude  # noqa: PLC0415
    from deploy.forgetting.choosing import Wish, read_list  # noqa: PLC0415
    from deploy.forgetting.here import forget_here, plan_here  # noqa: PLC0415

    if not site:
        if not remove or files is not None or cluster is not None or everything:
            raise UserError("which site takes images back? --site NAME")
        _delete(_found(run, server), yes)
        return
    if server is not None:
        if files is not None or cluster is not None:
            raise UserError(AT_THE_SITE)
        asked = _Asked(site, everything, method, remove, yes, audit)
        write_json(json_file, _over_sites(server, run, asked))
        return
    names = () if files is None else read_list(files)
    wish = Wish(names, cluster, everything)
    forgotten = plan_here(run, site, wish, method)
    if audit:
        check_audited(forgotten.order.plan)
    told = [*forgotten.lines(), *[cost_of()] * audit, *_to_be_deleted(run, remove)]
    confirm(told, yes)
    folder = forget_here(forgotten, console)
    figures = conclude(folder, console)
    if audit:
        figures["audit"] = audited(run, folder)
    _say_where(run, folder, remove)
    write_json(json_file, figures)


@dataclass(frozen=True)
class _Asked:
    site: str
    everything: bool
    method: str
    remove: bool
    yes: bool
    audit: bool


def _over_sites(folder: Path, run: Path, given: _Asked) -> dict[str, object]:
    from deploy.coordinator.folder import ServerFolder  # noqa: PLC0415
    from deploy.coordinator.run_list import find  # noqa: PLC0415
    from deploy.forgetting.served import forget_served, plan_served  # noqa: PLC0415 (torch)

    server = ServerFolder(folder.absolute())
    earlier = find(server, str(run))
    asked = plan_served(earlier, given.site, given.everything, given.method)
    told = [*asked.lines(), *[cost_of(True)] * given.audit, *_to_be_deleted(earlier, given.remove)]
    confirm(told, given.yes)
    figures = forget_served(server, asked, console)
    if given.audit:
        figures["audit"] = audited_served(folder, earlier, asked.folder)
    _say_where(earlier, asked.folder, given.remove)
    return figures


def _found(run: Path, server: Path | None) -> Path:
    from deploy.coordinator.folder import ServerFolder  # noqa: PLC0415
    from deploy.coordinator.run_list import find  # noqa: PLC0415

    return run if server is None else find(ServerFolder(server.absolute()), str(run))


def _to_be_deleted(run: Path, remove: bool) -> list[str]:
    """What is said before, of a run that is not superseded yet."""
    return [f"then {run} is deleted; this cannot be undone"] * remove


def _delete(run: Path, yes: bool) -> None:
    from deploy.forgetting.deleting import delete, lines, to_delete  # noqa: PLC0415

    folders = to_delete(run)
    confirm(lines(folders), yes)
    delete(folders)


def _say_where(run: Path, folder: Path, remove: bool) -> None:
    say(f"in the place of {run}: {folder}")
    if remove:
        _delete(run, yes=True)
    else:
        say(f"{run} holds what was learned with them: covey forget {run} --delete removes it")


def add_to(app: App, panel: str) -> None:
    """Make it a command of `app`."""
    app.command("forget", rich_help_panel=panel)(forget_command)
