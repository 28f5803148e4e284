"""The commands that use a model on images that are here; the work is imported when it is asked for,
so that `covey --help` stays quick."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deploy.cli.app import App, about
from deploy.cli.arguments import DeviceOption
from deploy.cli.asking import say
from deploy.cli.completion import complete_run
from deploy.cli.json_option import JsonOption, write_json

if TYPE_CHECKING:
    from deploy.using.model import Opened
    from deploy.using.pictures import Pictures

PANEL = "With what was learned"
console = Console()
progress = Console(stderr=True)

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="a model.covey, or the folder of a finished run",
        autocompletion=complete_run,
    ),
]
DataArgument = Annotated[
    str,
    typer.Argument(metavar="FOLDER", help="a folder of images; also an .npz, or a data set's name"),
]
OwnPagesOption = Annotated[
    str,
    typer.Option(
        "--pages",
        help=about("of stacks: first, all, or a number from 1", default="as in the model's run"),
        metavar="PAGES",
        show_default=False,
    ),
]
OwnLargestOption = Annotated[
    int,
    typer.Option(
        "--largest",
        help=about("pictures of more megapixels are left out", default="as in the model's run"),
        min=0,
        metavar="MEGAPIXELS",
        show_default=False,
    ),
]


def assign_command(
    model: ModelArgument,
    folder: DataArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="a .csv or a .parquet file", metavar="FILE"),
    ] = Path("clusters.csv"),
    pages: OwnPagesOption = "",
    largest: OwnLargestOption = 0,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Say which cluster each image of a folder belongs to, as a table."""
    from deploy.using.assigning import assign_folder  # noqa: PLC0415 (torch)
    from deploy.using.model import open_model  # noqa: PLC0415

    opened = open_model(model, device)
    found = _pictures(opened, folder, pages, largest)
    result = assign_folder(opened, found, output, progress)
    if result.resumed:
        say(f"went on after {result.resumed:,} images that were done before")
    for name, count in result.sizes.items():
        say(f"{count:>9,}  {name}")
    say(f"table: {output}")
    unreadable = len(result.unreadable)
    write_json(
        json_file,
        {"table": str(output), "images": len(result.lines), "unreadable": unreadable,
         "sizes": result.sizes},
    )  # fmt: skip


def embed_command(
    model: ModelArgument,
    folder: DataArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="an .npz file", metavar="FILE")
    ] = Path("embeddings.npz"),
    pages: OwnPagesOption = "",
    largest: OwnLargestOption = 0,
    device: DeviceOption = "auto",
) -> None:
    """Write the embedding of each image of a folder, as NumPy arrays."""
    from deploy.using.embedding import embed_folder  # noqa: PLC0415 (torch)
    from deploy.using.model import open_model  # noqa: PLC0415

    opened = open_model(model, device)
    found = _pictures(opened, folder, pages, largest)
    count = embed_folder(opened, found, output, progress)
    say(f"{count:,} embeddings: {output} (arrays embeddings and names)")


def neighbours_command(
    model: ModelArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="the picture to look for")],
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER", help="a folder of images, or the .npz that `covey embed` made of one"
        ),
    ],
    count: Annotated[int, typer.Option(min=1, help="how many of them", metavar="COUNT")] = 10,
    pages: OwnPagesOption = "",
    largest: OwnLargestOption = 0,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """List the images of a folder that are most like one image."""
    from common.utils.names import written  # noqa: PLC0415
    from deploy.using.embedding import is_embeddings  # noqa: PLC0415 (torch)
    from deploy.using.model import open_model  # noqa: PLC0415
    from deploy.using.neighbours import neighbours  # noqa: PLC0415

    opened, store = open_model(model, device), Path(folder)
    among = store if is_embeddings(store) else _pictures(opened, folder, pages, largest)
    found = neighbours(opened, image, among, count, progress)
    for each in found:
        say(f"{each.similarity:7.4f}  {written(each.name)}")
    write_json(json_file, [{"file": written(n.name), "similarity": n.similarity} for n in found])


def name_command(
    model: ModelArgument,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAMES]...",
            help=about(
                "a names.json that the gallery saved, or CLUSTER=NAME, such as 3=scratch",
                default="show the names",
            ),
            show_default=False,
        ),
    ] = None,
) -> None:
    """Give the clusters names, which `covey assign` then uses."""
    from common.learned.file import read_learned  # noqa: PLC0415
    from deploy.using.naming import model_file, parsed  # noqa: PLC0415
    from deploy.using.naming import say as name_them  # noqa: PLC0415

    path = model_file(model)
    learned = name_them(path, parsed(names, path)) if names else read_learned(path)
    facts = learned.facts
    for cluster in range(facts.clusters):
        size = f"{facts.sizes[cluster]:>9,}" if facts.sizes else " " * 9
        several = "  (several things)" if cluster in facts.split else ""
        say(f"{cluster:>5}{size}  {facts.shown(cluster)}{several}")
    if names:
        say(f"kept in {path}")


def gallery_command(
    model: ModelArgument,
    folder: DataArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="where the page goes", metavar="FILE")
    ] = Path("clusters.html"),
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="show it at an address of this machine alone, and keep names at once; Ctrl-C ends",
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(help="of that address; 0: any", min=0, max=65535, metavar="PORT")
    ] = 0,
    pages: OwnPagesOption = "",
    largest: OwnLargestOption = 0,
    device: DeviceOption = "auto",
) -> None:
    """Show the clusters of a folder's images as a page, and give them names there."""
    from client.gallery.gallery import write  # noqa: PLC0415
    from deploy.using.gallery import show  # noqa: PLC0415 (torch)
    from deploy.using.model import open_model  # noqa: PLC0415
    from deploy.using.serving import serve as serve_page  # noqa: PLC0415

    opened = open_model(model, device)
    found = _pictures(opened, folder, pages, largest)
    title = Path(folder).name or folder
    shown = show(opened, found, title, progress)
    write(output, shown.page(opened.facts))
    say(f"page: {output}")
    if serve:
        serve_page(shown, opened.facts, port, lambda url: say(f"open {url}"))


def export_command(
    model: ModelArgument,
    to: Annotated[
        str, typer.Option("--to", help="onnx, torch-export, safetensors or timm", metavar="FORMAT")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="a new folder for it", metavar="DIR"),
    ] = Path("exported"),
) -> None:
    """Write a model for other tools: a folder with its preprocessing and a model card."""
    from deploy.using.exporting import export  # noqa: PLC0415 (torch)
    from deploy.using.model import open_model  # noqa: PLC0415

    say(f"exported: {export(open_model(model, 'cpu'), to, output)}")


def compare_command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="the folders of two runs or more", autocompletion=complete_run
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help=about("also as a page, to this file", default="none"),
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Show runs side by side: settings that differ, figures, what they cost."""
    from common.utils.files import write_atomic  # noqa: PLC0415
    from deploy.using.comparing import as_json, compare, page, read, show  # noqa: PLC0415

    comparison = compare(read(runs))
    show(comparison, console)
    if output is not None:
        write_atomic(output, page(comparison).encode(errors="backslashreplace"))
        say(f"page: {output}")
    write_json(json_file, as_json(comparison))


def add_to(app: App) -> None:
    """Make them commands of `app`."""
    app.command("assign", rich_help_panel=PANEL)(assign_command)
    app.command("gallery", rich_help_panel=PANEL)(gallery_command)
    app.command("name", rich_help_panel=PANEL)(name_command)
    app.command("embed", rich_help_panel=PANEL)(embed_command)
    app.command("compare", rich_help_panel="What there is")(compare_command)
    app.command("export", rich_help_panel=PANEL)(export_command)
    app.command("neighbours", rich_help_panel=PANEL)(neighbours_command)


def _pictures(opened: "Opened", folder: str, pages: str, largest: int) -> "Pictures":
    """Of `folder`, read as the run's were where nothing else is said."""
    from deploy.using.pictures import pictures  # noqa: PLC0415

    plan = opened.networks.plan
    how = opened.facts.preprocessing
    return pictures(folder, how, pages or plan.pages, largest or plan.largest)
