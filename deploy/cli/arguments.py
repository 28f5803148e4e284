"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated, Any

import typer

from common.config.options import RUN_OPTIONS
from common.config.preparation import Copies
from deploy.cli.app import about
from deploy.cli.completion import complete_name, complete_recipe, complete_run
from deploy.flower import bundle

RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="a name from `covey recipes`, or the path of a .toml file",
        autocompletion=complete_recipe,
    ),
]
FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--run-folder",
        metavar="DIR",
        help=about("where the run goes", default="runs/TIME-RECIPE"),
        show_default=False,
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="go on with this run's folder from its last checkpoint; takes no other options",
        autocompletion=complete_run,
    ),
]
RunArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="a run's folder, such as runs/NAME", autocompletion=complete_run
    ),
]
RunNameArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="a name from `covey runs`", autocompletion=complete_name),
]
ServerArgument = Annotated[Path, typer.Argument(metavar="DIR", help="the server's folder")]
ServerOption = Annotated[
    Path, typer.Option("--server", help="the folder of the running server", metavar="DIR")
]
WorkArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[WORK]",
        help=about("the site's folder", default="covey-site-NAME, if there is one alone"),
        show_default=False,
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="the site's name")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", metavar="DEVICE")]


def _number(name: str, metavar: str) -> Any:
    """An option of a site's that is a run's, too: with its text and its bounds."""
    field = RUN_OPTIONS[name]
    bounds = {type(each).__name__.lower(): each for each in field.metadata}
    least, most = (getattr(bounds.get(kind), kind, None) for kind in ("ge", "le"))
    return typer.Option(help=about(field.description), min=least, max=most, metavar=metavar)


def _text(name: str, metavar: str) -> Any:
    return typer.Option(help=about(RUN_OPTIONS[name].description), metavar=metavar)


SideOption = Annotated[int, _number("side", "PIXELS")]
LargestOption = Annotated[int, _number("largest", "MEGAPIXELS")]
WindowOption = Annotated[str, _text("window", "WINDOW")]
PagesOption = Annotated[str, _text("pages", "PAGES")]
CopiesOption = Annotated[Copies, _text("copies", "keep|drop")]
MinCountOption = Annotated[
    int,
    typer.Option(
        help="send no count, sum or centroid of fewer images, whatever the coordinator asks",
        min=1,
        metavar="COUNT",
    ),
]
ProxyOption = Annotated[
    str,
    typer.Option(
        help=about("the HTTP proxy on the way to the server", default="HTTPS_PROXY"),
        metavar="URL",
        envvar="COVEY_PROXY",
        show_envvar=False,
        show_default=False,
    ),
]
TakeWeightsOption = Annotated[
    bool,
    typer.Option(
        "--take-weights",
        help="take an encoder's weights that are not here from the server, 4 GiB in all at most",
    ),
]
AnyBundleOption = Annotated[
    bool,
    typer.Option(
        bundle.ANY, help="run whatever code the coordinator sends, not Covey's bundle alone"
    ),
]
