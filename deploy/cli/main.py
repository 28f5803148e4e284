"""The `covey` command."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import click
import typer
from rich.console import Console

from common.config import recipes
from common.config.options import Plan
from common.utils.errors import UserError, unknown
from common.utils.names import portable, printable, write_out
from deploy.cli.commands import client_app, runs, server_app, stop, submit
from deploy.cli.json_option import JsonOption, write_json
from deploy.cli.run_options import run_config, with_run_options
from deploy.cli.runs import (
    absolute_dataset,
    absolute_recipe,
    add_map,
    conclude,
    new_folder,
    resumed,
    unless_empty,
)

app = typer.Typer(
    name="covey",
    help="Federated representation learning and deep clustering without labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(server_app, name="server")
app.add_typer(client_app, name="client")
app.command("submit")(submit)
app.command("runs")(runs)
app.command("stop")(stop)
console = Console()

INTERRUPTED = 130  # what a shell makes of a program that Ctrl-C ended

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="a name from `covey recipes`, or a .toml file")
]
FolderOption = Annotated[
    Path | None, typer.Option("--run-folder", help="where the run goes [default: runs/TIME-RECIPE]")
]
ResumeOption = Annotated[
    Path | None, typer.Option(help="go on with this run's folder from its last checkpoint")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")]


@app.command("run")
@with_run_options
def run_command(
    recipe: RecipeArgument = recipes.DEFAULT,
    resume: ResumeOption = None,
    run_folder: FolderOption = None,
    json_file: JsonOption = None,
    *,
    options: Mapping[str, str],
) -> None:
    """Run a federation of real processes on this machine: TLS, authentication, one run."""
    from deploy.engines.run_locally import run_locally  # noqa: PLC0415 (--help stays quick)

    plan, folder = _prepare(recipe, resume, run_folder, options)
    config = _config(recipe, resume, options, folder, "processes")
    with unless_empty(folder):
        run_locally(plan, config, folder, console)
    _conclude(folder, json_file)


@app.command("simulate")
@with_run_options
def simulate_command(
    recipe: RecipeArgument = recipes.DEFAULT,
    engine: Annotated[
        str, typer.Option(help="in-process, or ray (Flower's simulation engine)")
    ] = "in-process",
    resume: ResumeOption = None,
    run_folder: FolderOption = None,
    json_file: JsonOption = None,
    *,
    options: Mapping[str, str],
) -> None:
    """Run the same ServerApp and ClientApp without processes or network."""
    if engine not in ("in-process", "ray"):
        raise unknown("engine", engine, ["in-process", "ray"])
    plan, folder = _prepare(recipe, resume, run_folder, options)
    if engine == "ray":
        from deploy.engines.ray_engine import run_on_ray  # noqa: PLC0415

        config = _config(recipe, resume, options, folder, "ray")
        with unless_empty(folder):
            run_on_ray(plan, config, folder, console)
    else:
        from deploy.cli.live import live_line  # noqa: PLC0415
        from deploy.cli.progress import show_event  # noqa: PLC0415
        from deploy.engines.simulate import simulate  # noqa: PLC0415

        with unless_empty(folder), live_line(folder, console):
            simulate(plan, folder, lambda event: show_event(console, event, plan.rounds))
    _conclude(folder, json_file)


@app.command("recipes")
def recipes_command(json_file: JsonOption = None) -> None:
    """List the recipes: what each is, and what its sites share; and the published protocols."""
    from deploy.cli.recipes import list_recipes  # noqa: PLC0415

    write_json(json_file, list_recipes(console))


@app.command("datasets")
def datasets_command(json_file: JsonOption = None) -> None:
    """List the data sets, and which of them are on this machine."""
    from deploy.cli.datasets import list_datasets  # noqa: PLC0415

    write_json(json_file, list_datasets(console))


@app.command("evaluate")
def evaluate_command(
    run: RunArgument,
    dataset: Annotated[
        str, typer.Option(help="evaluate on this data set instead of the run's")
    ] = "",
    protocol: Annotated[
        str,
        typer.Option(
            help="clustering, knn, linear, semi-1 and semi-10 (fine-tuning with 1 and 10 % of the "
            "labels), or all",
        ),
    ] = "clustering,knn,linear",
    repeats: Annotated[
        int, typer.Option(min=1, help="draws of labels in semi-1 and semi-10: mean ± std")
    ] = 1,
    federated: Annotated[
        bool, typer.Option("--federated", help="from sums over the run's own partition")
    ] = False,
    resize: Annotated[
        bool, typer.Option("--resize", help="scale the images to the side that the encoder takes")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    json_file: JsonOption = None,
) -> None:
    """Score a finished run's encoder: clustering, kNN, linear probe, fine-tuning."""
    from deploy.evaluation.pooled import Asked, evaluate_run, parse_protocols  # noqa: PLC0415

    asked = Asked(dataset, resize, parse_protocols(protocol), repeats, federated, device)
    write_json(json_file, evaluate_run(run, asked, console))


@app.command("report")
def report_command(run: RunArgument) -> None:
    """Write a run's report.html anew."""
    from server.report import write_report  # noqa: PLC0415

    said = f"report: {write_report(run)}"
    console.print(said, highlight=False, markup=False, soft_wrap=True)


def _prepare(
    recipe: str, resume: Path | None, run_folder: Path | None, options: Mapping[str, str]
) -> tuple[Plan, Path]:
    """The plan and the folder of a new run, or of the one to go on with."""
    if resume is not None:
        if options or run_folder is not None:
            raise UserError("--resume takes no other options: a run goes on as it began")
        return resumed(resume), resume.absolute()
    plan = recipes.load(recipe).plan(absolute_dataset(options))
    from common.config.checks import check_plan  # noqa: PLC0415 (torch, after the cheap checks)

    check_plan(plan)
    return plan, new_folder(Path("runs"), plan.recipe, run_folder)


def _config(
    recipe: str, resume: Path | None, options: Mapping[str, str], folder: Path, engine: str
) -> dict[str, str]:
    """Flower's run configuration; a run that goes on takes its plan from its folder."""
    places = {"run-folder": portable(str(folder)), "engine": engine}
    if resume:
        return run_config("", {}, **places)
    return run_config(absolute_recipe(recipe), absolute_dataset(options), **places)


def _conclude(folder: Path, json_file: Path | None) -> None:
    """The report and the final table; then the map of embeddings, for which nobody waits."""
    write_json(json_file, conclude(folder, console))
    add_map(folder, console)


def main() -> None:
    """The console script: a user's mistake is one line and exit code 2."""
    from deploy.engines.run_locally import RunFailed  # noqa: PLC0415

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    write_out(sys.stdout, sys.stderr)
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except UserError as error:
        _fail(str(error), 2)
    except RunFailed as error:
        _fail(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        _fail("stopped", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    if code == INTERRUPTED:  # typer has caught the interrupt itself
        _fail("stopped", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, code: int) -> None:
    print(f"covey: {printable(' '.join(text.split()))}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
