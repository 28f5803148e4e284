"""The `covey` command."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import click
import typer
from rich.console import Console

from common.config import recipes
from common.config.options import Plan
from common.utils import logs
from common.utils.errors import RunFailed, UserError, unknown
from common.utils.names import printable, write_out
from common.utils.version import covey_version
from deploy.cli.app import App, about
from deploy.cli.arguments import (
    DeviceOption,
    FolderOption,
    RecipeArgument,
    ResumeOption,
    RunArgument,
)
from deploy.cli.asking import say
from deploy.cli.auditing import add_to as add_auditing
from deploy.cli.commands import client_app, runs, server_app, stop, submit
from deploy.cli.completion import complete_dataset, complete_recipe
from deploy.cli.forgetting import add_to as add_forgetting
from deploy.cli.json_option import JsonOption, write_json
from deploy.cli.later import add_to as add_later
from deploy.cli.lists import add_to as add_lists
from deploy.cli.names import add_to as add_names
from deploy.cli.run_options import with_run_options
from deploy.cli.using import PANEL, add_to
from deploy.cli.withdrawing import add_to as add_withdrawing

ENGINES = ("in-process", "ray")
HERE, APART, LISTS = "On this machine", "Over separate machines", "What there is"
INTERRUPTED = 130  # what a shell makes of a program that Ctrl-C ended

app = App(
    "Federated representation learning and deep clustering without labels.\n\n"
    "Start with `covey run`: a whole federation on this machine, in minutes. `covey recipes` has "
    "the methods, `covey server` and `covey client` are for separate machines.",
    "covey",
)
console = Console()


def _version(wanted: bool) -> None:
    if wanted:
        print(f"covey {covey_version()}")
        raise typer.Exit


@app.callback()
def covey(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_version, is_eager=True
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Show the log, and let every process log everything (COVEY_LOG=debug).",
        ),
    ] = False,
) -> None:
    """What holds for every command."""
    if verbose:
        os.environ[logs.VARIABLE] = "debug"
        logs.set_up(sys.stderr)


@app.command("run", rich_help_panel=HERE)
@with_run_options
def run_command(
    recipe: RecipeArgument = recipes.DEFAULT,
    resume: ResumeOption = None,
    run_folder: FolderOption = None,
    beside: Annotated[
        str,
        typer.Option(
            help="a recipe whose figures on the same images are shown, too (in this process)",
            metavar="RECIPE",
            show_default=False,
            autocompletion=complete_recipe,
        ),
    ] = "",
    json_file: JsonOption = None,
    *,
    options: Mapping[str, str],
) -> None:
    """Run a federation of real processes on this machine: TLS, authentication, one run."""
    other = recipes.load(beside) if beside else None
    from deploy.engines.run_locally import run_locally  # noqa: PLC0415 (--help stays quick)
    from deploy.engines.runs import config_of, prepared, unless_empty  # noqa: PLC0415

    plan, folder, options = prepared(recipe, resume, run_folder, options, say)
    config = config_of(recipe, resume, options, folder, "processes")
    with unless_empty(folder):
        run_locally(plan, config, folder, console)
    _conclude(folder, json_file, lambda: _show_beside(other, plan, folder))


@app.command("simulate", rich_help_panel=HERE)
@with_run_options
def simulate_command(
    recipe: RecipeArgument = recipes.DEFAULT,
    engine: Annotated[
        str,
        typer.Option(
            help="in-process, or ray (Flower's simulation engine)",
            metavar="ENGINE",
            autocompletion=lambda: list(ENGINES),
        ),
    ] = "in-process",
    resume: ResumeOption = None,
    run_folder: FolderOption = None,
    json_file: JsonOption = None,
    *,
    options: Mapping[str, str],
) -> None:
    """Run the same ServerApp and ClientApp without processes or network."""
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    from deploy.engines.runs import config_of, prepared, unless_empty  # noqa: PLC0415

    plan, folder, options = prepared(recipe, resume, run_folder, options, say)
    if engine == "ray":
        from deploy.engines.ray_engine import run_on_ray  # noqa: PLC0415

        config = config_of(recipe, resume, options, folder, "ray")
        with unless_empty(folder):
            run_on_ray(plan, config, folder, console)
    else:
        from deploy.engines.watched import simulate_watched  # noqa: PLC0415

        with unless_empty(folder):
            simulate_watched(plan, folder, console, say=say)
    _conclude(folder, json_file)


@app.command("evaluate", rich_help_panel=HERE)
def evaluate_command(
    run: RunArgument,
    dataset: Annotated[
        str,
        typer.Option(
            help=about("evaluate on this data set", default="the run's"),
            metavar="DATA",
            show_default=False,
            autocompletion=complete_dataset,
        ),
    ] = "",
    protocol: Annotated[
        str,
        typer.Option(
            help="clustering, knn, linear, semi-1 and semi-10 (fine-tuning with 1 and 10 % of the "
            "labels), or all",
            metavar="NAMES",
        ),
    ] = "clustering,knn,linear",
    repeats: Annotated[
        int,
        typer.Option(
            min=1, help="draws of labels in semi-1 and semi-10: mean ± std", metavar="COUNT"
        ),
    ] = 1,
    federated: Annotated[
        bool, typer.Option("--federated", help="from sums over the run's own partition")
    ] = False,
    resize: Annotated[
        bool, typer.Option("--resize", help="scale the images to the side that the encoder takes")
    ] = False,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Score a finished run's encoder: clustering, kNN, linear probe, fine-tuning."""
    from deploy.evaluation.pooled import Asked, evaluate_run, parse_protocols  # noqa: PLC0415

    asked = Asked(dataset, resize, parse_protocols(protocol), repeats, federated, device)
    write_json(json_file, evaluate_run(run, asked, console))


@app.command("report", rich_help_panel=HERE)
def report_command(run: RunArgument) -> None:
    """Write a run's report.html anew."""
    from server.report import write_report  # noqa: PLC0415

    say(f"report: {write_report(run)}")


add_to(app)
add_later(app, PANEL)
add_lists(app, LISTS)
add_forgetting(app, HERE)
add_withdrawing(client_app)
add_auditing(app, HERE)
add_names(app, client_app, APART)
app.add_typer(server_app, name="server", rich_help_panel=APART)
app.add_typer(client_app, name="client", rich_help_panel=APART)
app.command("submit", rich_help_panel=APART)(submit)
app.command("runs", rich_help_panel=LISTS)(runs)
app.command("stop", rich_help_panel=APART)(stop)


def _conclude(
    folder: Path, json_file: Path | None, then: Callable[[], None] = lambda: None
) -> None:
    """The report and the final table, `then` whatever else; last the map of embeddings, for which
    nobody waits."""
    from deploy.engines.runs import add_map, conclude  # noqa: PLC0415

    write_json(json_file, conclude(folder, console))
    then()
    add_map(folder, console)


def _show_beside(recipe: recipes.Recipe | None, plan: Plan, folder: Path) -> None:
    """The figures of another recipe at the sites of the run in `folder`, if there is to be one."""
    if recipe is not None:
        from deploy.engines.beside import beside  # noqa: PLC0415

        beside(recipe, plan, folder.parent, console)


def main() -> None:
    """The console script: a user's mistake is one line and exit code 2."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    write_out(sys.stdout, sys.stderr)
    logs.set_up()
    try:
        code = app(prog_name="covey", standalone_mode=False)
    except click.UsageError as error:
        more = f" (see {error.ctx.command_path} -h)" if error.ctx else ""
        _fail(f"{error.format_message()}{more}", 2)
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
