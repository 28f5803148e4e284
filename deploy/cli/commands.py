"""`covey server`, `covey client` and `covey submit`: their options; the work is imported when it is
asked for, so that `covey --help` stays quick."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.config import recipes
from common.config.options import MIN_COUNT
from common.config.preparation import FIRST, LARGEST, Preparation
from deploy.cli.app import App, about
from deploy.cli.arguments import (
    AnyBundleOption,
    CopiesOption,
    DeviceOption,
    LargestOption,
    MinCountOption,
    NameArgument,
    PagesOption,
    ProxyOption,
    RecipeArgument,
    ResumeOption,
    RunNameArgument,
    ServerArgument,
    ServerOption,
    SideOption,
    TakeWeightsOption,
    WindowOption,
    WorkArgument,
)
from deploy.cli.asking import say
from deploy.cli.json_option import JsonOption, write_json
from deploy.cli.run_options import with_run_options
from deploy.coordinator.options import NOT_OF_SUBMIT

server_app = App("The coordinator's server: make it, run it, invite sites.")
client_app = App("A site's side: join a federation, see what left the machine.")
console = Console()

NOT_JOINED = 1  # the exit code of `covey client status` where nobody has joined
REGISTERING = 10.0  # seconds in which a running server notices an invitation
SITES_OF_SUBMIT = ("start when this many sites are there", "those that are online")


@server_app.command("init")
def init_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a new folder for the server")],
    address: Annotated[
        str, typer.Option(help="what sites dial, such as fl.example.org:8443", metavar="HOST:PORT")
    ],
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="another name or IP address of this machine; may be given again", metavar="NAME"
        ),
    ] = None,
) -> None:
    """Make a server: an authority, a certificate, folders, `server.toml`."""
    from deploy.coordinator.folder import init  # noqa: PLC0415

    init(folder, address, name or [])
    say(f"made {folder}: settings in {folder / 'server.toml'}, keys in {folder / 'certificates'}")
    say(f"next: covey server start {folder}, covey server invite {folder} NAME")


@server_app.command("start")
def start_command(folder: ServerArgument) -> None:
    """Run the server until Ctrl-C."""
    from deploy.coordinator.folder import ServerFolder  # noqa: PLC0415
    from deploy.coordinator.serve import serve  # noqa: PLC0415

    serve(ServerFolder(folder.absolute()), console)


@server_app.command("invite")
def invite_command(
    folder: ServerArgument,
    name: NameArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            help=about("where the invitation goes", default="NAME.covey"),
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Invite a site: one file for its operator, to be handed over by a private way."""
    from deploy.coordinator.folder import ServerFolder, invite  # noqa: PLC0415

    server = ServerFolder(folder.absolute())
    path = output or Path(f"{name}.covey")
    invite(server, name, path)
    say(f"invitation: {path} (it holds the site's private key: hand it over privately)")
    if not server.running():
        say("the site is let in from the server's next start on")
    elif _registered(folder, name):
        say("the running server lets it in")
    else:
        say("the server lets it in as soon as it is ready")


@server_app.command("sites")
def sites_command(folder: ServerArgument, json_file: JsonOption = None) -> None:
    """List the sites: who is there, when last seen, and what each took part in."""
    from deploy.coordinator.folder import NOT_RUNNING, ServerFolder  # noqa: PLC0415
    from deploy.coordinator.sites import as_json, show_sites, sites  # noqa: PLC0415

    server = ServerFolder(folder.absolute())
    found = sites(server)
    show_sites(found, console)
    write_json(json_file, as_json(found))
    if not server.running():
        say(f"{NOT_RUNNING} {folder}")


@server_app.command("revoke")
def revoke_command(folder: ServerArgument, name: NameArgument) -> None:
    """Let a site in no more: its next message is refused."""
    from deploy.coordinator.folder import ServerFolder, revoke  # noqa: PLC0415

    if revoke(ServerFolder(folder.absolute()), name):
        say(f"revoked: the server refuses {name} from now on")
    else:
        say(f"revoked: the server refuses {name} from its next start on")
    say(f"covey server invite {folder} {name} would invite it anew, with another key")


@client_app.command("join")
def join_command(
    invitation: Annotated[
        Path, typer.Argument(metavar="INVITATION", help="the file that the coordinator sent")
    ],
    data: Annotated[
        str, typer.Option(help="a folder of images, an .npz, or a data set's name", metavar="DATA")
    ],
    device: DeviceOption = "auto",
    side: SideOption = 0,
    window: WindowOption = "",
    pages: PagesOption = FIRST,
    largest: LargestOption = LARGEST,
    copies: CopiesOption = "keep",
    folder: Annotated[
        Path | None,
        typer.Option(
            help=about(
                "where state, assignments and the log of what left go", default="covey-site-NAME"
            ),
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="return when it has joined; it stays in the background")
    ] = False,
    min_count: MinCountOption = MIN_COUNT,
    proxy: ProxyOption = "",
    take_weights: TakeWeightsOption = False,
    any_bundle: AnyBundleOption = False,
) -> None:
    """Check data, device, versions and connection, join, take part in runs until Ctrl-C."""
    from deploy.site.checks import Data  # noqa: PLC0415
    from deploy.site.detach import join_behind  # noqa: PLC0415
    from deploy.site.join import Terms, join  # noqa: PLC0415

    way = join_behind if detach else join
    how = Preparation(side=side, window=window, pages=pages, largest=largest, copies=copies)
    terms = Terms(device, any_bundle, min_count, proxy, take_weights)
    way(invitation, Data(data, how), terms, folder, console)


@client_app.command("status")
def status_command(folder: WorkArgument = None) -> None:
    """Say whether the site has joined, whether the server answers, and what has left."""
    from deploy.site.status import pick_folder, show_status  # noqa: PLC0415

    if not show_status(pick_folder(folder), console):
        raise typer.Exit(NOT_JOINED)


@client_app.command("leave")
def leave_command(folder: WorkArgument = None) -> None:
    """End the process that has joined from a folder, as Ctrl-C does."""
    from deploy.site.status import leave, pick_folder  # noqa: PLC0415

    say(f"left: {leave(pick_folder(folder)).path}")


@client_app.command("log")
def log_command(
    folder: WorkArgument = None,
    run: Annotated[
        str,
        typer.Option(
            metavar="RUN", help=about("of this run alone", default="all runs"), show_default=False
        ),
    ] = "",
) -> None:
    """Show what left the machine, run by run."""
    from deploy.site.left import read_ledger, show_ledger  # noqa: PLC0415
    from deploy.site.status import pick_folder  # noqa: PLC0415

    show_ledger(read_ledger(pick_folder(folder).path, run), console)


@partial(with_run_options, refused=NOT_OF_SUBMIT, otherwise={"sites": SITES_OF_SUBMIT})
def submit(
    recipe: RecipeArgument = recipes.DEFAULT,
    server: ServerOption = Path(),
    resume: ResumeOption = None,
    run_folder: Annotated[
        Path | None,
        typer.Option(
            help=about("where the run goes", default="DIR/runs/TIME-RECIPE"),
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    json_file: JsonOption = None,
    *,
    options: Mapping[str, str],
) -> None:
    """Run a recipe over the sites that have joined a running server."""
    from deploy.coordinator.folder import ServerFolder  # noqa: PLC0415
    from deploy.coordinator.submit import Order, submit_run  # noqa: PLC0415

    order = Order(recipe, options, run_folder, resume)
    write_json(json_file, submit_run(ServerFolder(server.absolute()), order, console))


def runs(
    server: Annotated[
        Path | None,
        typer.Option(
            "--server",
            help=about("those of the server in this folder", default="those in the folder runs"),
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """List runs, here or of a server: recipe, status, rounds, start, scores."""
    from deploy.coordinator.folder import ServerFolder  # noqa: PLC0415
    from deploy.coordinator.run_list import as_json, list_runs, runs_in, show_runs  # noqa: PLC0415

    lines = runs_in(Path("runs")) if server is None else list_runs(ServerFolder(server.absolute()))
    show_runs(lines, console)
    write_json(json_file, as_json(lines))


def stop(run: RunNameArgument, server: ServerOption = Path()) -> None:
    """Stop a run of a server that is going on."""
    from deploy.coordinator import run_list  # noqa: PLC0415
    from deploy.coordinator.folder import ServerFolder  # noqa: PLC0415
    from deploy.engines.runs import way_on  # noqa: PLC0415

    folder = ServerFolder(server.absolute())
    stopped = run_list.stop(folder, run)
    say(f"stopped; {way_on(stopped, 'submit', '--server', str(folder.path))}")


def _registered(folder: Path, name: str) -> bool:
    """Whether the running server lists the site within `REGISTERING` seconds."""
    from deploy.coordinator.folder import ServerFolder  # noqa: PLC0415
    from deploy.coordinator.sites import nodes  # noqa: PLC0415
    from deploy.flower.control import read_public_key  # noqa: PLC0415

    server = ServerFolder(folder)
    path = server.invited().get(name)
    deadline = time.monotonic() + REGISTERING
    while path is not None and time.monotonic() < deadline:
        if read_public_key(path) in nodes(server):
            return True
        time.sleep(0.3)
    return False
