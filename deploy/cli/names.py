"""`covey names` and `covey client offer-names`: what sites call the clusters, for all of them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.utils.errors import UserError
from deploy.cli.app import App
from deploy.cli.arguments import RunArgument
from deploy.cli.asking import YesOption, confirm, say
from deploy.cli.json_option import JsonOption, write_json

console = Console()


def names_command(
    run: RunArgument,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            help="call the clusters as this site has offered; may be given again",
            metavar="SITE",
            show_default=False,
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="call a cluster so, such as 3=scratch; may be given again",
            metavar="K=NAME",
            show_default=False,
        ),
    ] = None,
    server: Annotated[
        Path | None,
        typer.Option(
            help="the folder of the running server: ask the sites for their offers, and hand the "
            "names over that the clusters have",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Show what the sites offer to call a finished run's clusters, and accept names."""
    from deploy.coordinator import naming  # noqa: PLC0415 (torch)

    folder = None
    if server is not None:
        from deploy.coordinator.folder import ServerFolder  # noqa: PLC0415
        from deploy.coordinator.run_list import find  # noqa: PLC0415

        folder = ServerFolder(server.absolute())
        run = find(folder, str(run))
    if accept or given:
        from deploy.using.naming import typed  # noqa: PLC0415

        naming.accept(run, accept or (), typed(given or ()))
    if folder is not None:
        from deploy.coordinator.submit import meet_again  # noqa: PLC0415

        meet_again(folder, run, console)
    found = naming.called(run)
    found.show(console)
    if not found.offers:
        say("no site has offered names (covey client offer-names; --server DIR asks the sites)")
    if (accept or given) and folder is None:
        say("its sites get the names by `covey names RUN --server DIR`")
    write_json(json_file, found.as_json())


def offer_names_command(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="the model.covey that this site has received, in its folder, or its run's folder",
        ),
    ],
    withdraw: Annotated[bool, typer.Option("--withdraw", help="offer them no more")] = False,
    yes: YesOption = False,
) -> None:
    """Offer the names that this site has given its clusters to the federation."""
    from deploy.site.offering import take_back, to_offer  # noqa: PLC0415

    if withdraw:
        if not take_back(model):
            raise UserError(f"{model}: no names of it are offered")
        say("offered no more; what the coordinator has seen, it has seen")
        return
    offer = to_offer(model)
    confirm(offer.lines(), yes)
    path = offer.write()
    say(f"offered: they leave when the coordinator asks for names (noted in {path})")


def add_to(app: App, client_app: App, panel: str) -> None:
    """Make them commands of `app` and of a site's."""
    app.command("names", rich_help_panel=panel)(names_command)
    client_app.command("offer-names")(offer_names_command)
