"""Before and after a run: its folder, new or to go on with, its configuration, what it ends in."""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from common.config import recipes
from common.config.options import Plan
from common.data import DATASETS, has_labels
from common.data.partition import IID, parse
from common.record.reader import has_run, read_run, read_settings
from common.utils.errors import UserError
from common.utils.lock import is_locked
from common.utils.names import place, portable
from deploy.terminal.progress import show_result, summary_rows
from server.report import write_report
from server.run.folder import LOCK, RunFolder


def new_folder(runs: Path, recipe: str, wanted: Path | None) -> Path:
    """`wanted`, or a folder of its own in `runs` named by time and recipe, made; absolute.

    `UserError` if `wanted` holds a run already.
    """
    if wanted is not None:
        if has_run(wanted):
            raise UserError(f"{wanted} holds a run already: --resume {wanted} goes on with it")
        wanted.mkdir(parents=True, exist_ok=True)
        return wanted.absolute()
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{recipes.file_name(recipe)}"
    number = 1
    while True:
        folder = (runs / (name if number == 1 else f"{name}-{number}")).absolute()
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # another run of the same second
            number += 1
        else:
            return folder


@contextmanager
def unless_empty(folder: Path) -> Iterator[None]:
    """Remove the folder again where a mistake ends the run before anything was written to it."""
    try:
        yield
    except UserError:
        if {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
        raise


def prepared(
    recipe: str,
    resume: Path | None,
    run_folder: Path | None,
    options: Mapping[str, str],
    say: Callable[[str], None],
) -> tuple[Plan, Path, Mapping[str, str]]:
    """The plan and the folder of a new run, or of the one to go on with, and its options as they
    are settled (`spread_as_can_be`)."""
    if resume is not None:
        if options or run_folder is not None:
            raise UserError("--resume takes no other options: a run goes on as it began")
        return resumed(resume), resume.absolute(), options
    options = spread_as_can_be(recipe, options, say)
    plan = recipes.load(recipe).plan(absolute_places(options))
    plan = checked(plan)
    return plan, new_folder(Path("runs"), plan.recipe, run_folder), options


def checked(plan: Plan) -> Plan:
    """The plan with its encoder settled; `UserError` for whatever cannot be run."""
    from common.config.checks import check_plan  # noqa: PLC0415 (torch, after the cheap checks)
    from common.models.pretrained.settle import settle_encoder  # noqa: PLC0415
    from common.models.pretrained.store import WeightStore  # noqa: PLC0415

    plan = settle_encoder(plan, WeightStore())
    check_plan(plan)
    return plan


def spread_as_can_be(
    recipe: str, options: Mapping[str, str], say: Callable[[str], None]
) -> dict[str, str]:
    """`options` with the partition `iid` where none is given and the recipe's needs labels that the
    images have not; `say` is told so."""
    settled = dict(options)
    plan = recipes.load(recipe).plan(options)
    if "partition" in options or parse(plan.partition).name == IID or has_labels(plan.dataset):
        return settled
    settled["partition"] = IID
    say(
        f"{plan.dataset} has no labels: its images are spread {IID} over the sites ("
        f"{plan.partition} goes by classes)"
    )
    return settled


def run_config(recipe: str, options: Mapping[str, str], **extra: str) -> dict[str, str]:
    """A Flower run configuration: strings only, as its overrides are not typed."""
    clash = options.keys() & extra.keys()
    if clash:
        raise UserError(f"option {min(clash)} is set by the command itself")
    return {"recipe": recipe, **options, **extra}


def config_of(
    recipe: str, resume: Path | None, options: Mapping[str, str], folder: Path, engine: str
) -> dict[str, str]:
    """Flower's run configuration; a run that goes on takes its plan from its folder."""
    places = {"run-folder": portable(str(folder)), "engine": engine}
    if resume:
        return run_config("", {}, **places)
    return run_config(absolute_recipe(recipe), absolute_places(options), **places)


def resumed(folder: Path) -> Plan:
    """The plan of the run in `folder`, which is made ready to go on; `UserError` if there is none,
    or someone is at work in it."""
    plan = RunFolder(folder).plan()
    if has_run(folder) and (newer := read_settings(folder).superseded):
        raise UserError(f"{folder}: images were taken back from it: {newer} is in its place")
    if is_locked(folder / LOCK):
        raise UserError(f"{folder}: another process is at work in it")
    RunFolder(folder).reopen()
    return plan


def way_on(run: Path, *command: str) -> str:
    """How a run that has ended early goes on with a `covey` command, as half a sentence."""
    if has_run(run):
        whole = shlex.join(["covey", *command, "--resume", str(run)])
        return f"`{whole}` goes on from the last round"
    return "it had not begun: there is nothing to go on from"


def absolute_recipe(recipe: str) -> str:
    """A recipe's file by its whole path, since other processes have other folders."""
    return portable(str(place(recipe).absolute())) if recipe.endswith(".toml") else recipe


def absolute_places(options: Mapping[str, str]) -> dict[str, str]:
    """`options` with the paths of a data set and of an encoder's weights made whole."""
    absolute = dict(options)
    for name in ("dataset", "weights"):
        given = options.get(name)
        if given and given not in DATASETS and place(given).exists():
            absolute[name] = portable(str(place(given).absolute()))
    return absolute


def conclude(folder: Path, console: Console) -> dict[str, Any]:
    """Write the report, print the table that a run ends in, and return its figures; beside those
    from labels, what k-means on pixels gets where the images are here."""
    from deploy.evaluation.pixels import write_baseline  # noqa: PLC0415 (torch)

    with suppress(UserError):  # the result stands without it, where the images are gone
        write_baseline(folder)
    report = write_report(folder)
    record = read_run(folder)
    show_result(console, record)
    console.print(f"report: {report}", highlight=False, markup=False, soft_wrap=True)
    return {"run": folder.name, "folder": str(folder), "stages": summary_rows(record)}


def add_map(folder: Path, console: Console) -> None:
    """Draw the map of embeddings into the report of a run whose images are on this machine. The
    result stands without it: who does not want to wait interrupts, and what hinders it is said."""
    console.print("drawing the map of embeddings into the report; Ctrl-C: without it", style="dim")
    try:
        from deploy.evaluation.data_map import write_map  # noqa: PLC0415 (scikit-learn's t-SNE)

        write_map(folder)
        write_report(folder)
    except KeyboardInterrupt:
        return
    except UserError as error:
        console.print(f"[yellow]warning[/] no map of embeddings: {escape(str(error))}")
