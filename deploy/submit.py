"""`covey submit`: one run on a running server, over the sites that have joined it."""

import json
import shlex
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from common import recipes
from common.check import check_plan
from common.errors import UserError
from common.lock import is_locked
from common.options import Plan
from deploy.bundle import write_bundle
from deploy.control import Control, UnreachableError
from deploy.progress import show_result, summary_rows
from deploy.run_locally import RunFailed, ServerAppKilled, follow
from deploy.run_options import run_config
from deploy.server import NOT_RUNNING, ServerFolder
from server.report import read_run, write_report
from server.run_folder import LOCK, RunFolder

PATIENCE = 30.0  # seconds for a SuperLink that is being restarted
THEIRS = "each site's own"  # what the report calls data that is not the server's to name
_WHERE = "the images are where they are (covey run and covey simulate spread them)"
_JOIN = "each site says it when it joins (covey client join"
REFUSED = {
    "dataset": f"{_JOIN} --data)",
    "images": "each site trains on all of its own images",
    "side": f"{_JOIN} --side)",
    "partition": _WHERE,
    "size-skew": _WHERE,
    "device": f"{_JOIN} --device)",
}


@dataclass(frozen=True)
class Order:
    """What is to be run: a recipe with options, into `run_folder` (None: a new one of the server);
    or the run in `resume` again."""

    recipe: str
    options: Mapping[str, str]
    run_folder: Path | None = None
    resume: Path | None = None


def submit_run(folder: ServerFolder, order: Order, console: Console) -> dict[str, object]:
    """Carry out `order` on the server in `folder`, show it to its end, and return its figures.
    Interrupted, it stops the run.

    `UserError` where the server is not running, no site is online, or an option makes no sense
    here; `RunFailed` where the run ends without a result.
    """
    _check_options(order)
    folder.settings()
    control = folder.control(PATIENCE)
    if control is None:
        raise UserError(f"{NOT_RUNNING} {folder.path}")
    online = _online(control, folder)
    if order.resume:
        run, recipe, options = order.resume.absolute(), "", dict[str, str]()
        plan = _resumed(run)
    else:
        recipe, options = _absolute(order.recipe), _options(order, online, folder)
        plan = recipes.load(recipe).plan(options)
        check_plan(plan)
        run = _new_folder(folder, plan, order.run_folder)
    config = run_config(recipe, options, **{"run-folder": str(run), "engine": "server"})
    with tempfile.TemporaryDirectory(prefix="covey-") as scratch:
        run_id = control.submit(write_bundle(Path(scratch), config))
    what = f"{plan.recipe} over {plan.sites} sites, {online} of them online; run folder {run}"
    console.print(what, style="dim", highlight=False, markup=False, soft_wrap=True)
    _await_end(control, run_id, run, plan, console)
    return _conclude(run, console)


def _check_options(order: Order) -> None:
    for name, why in REFUSED.items():
        if name in order.options:
            raise UserError(f"--{name} is not an option of submit: {why}")
    if order.resume and (order.options or order.run_folder):
        raise UserError("--resume takes no other options: a run goes on as it began")


def _options(order: Order, online: int, folder: ServerFolder) -> dict[str, str]:
    """The order's options, and what the server knows better."""
    if not online and "sites" not in order.options:
        raise UserError(
            f"no site is online: see covey server sites {folder.path}, "
            "or say with --sites how many to wait for"
        )
    return {"sites": str(online), **order.options, "dataset": THEIRS}


def _online(control: Control, folder: ServerFolder) -> int:
    try:
        return list(control.sites().values()).count("online")
    except UnreachableError:
        raise UserError(f"the SuperLink does not answer (logs: {folder.logs})") from None


def _resumed(run: Path) -> Plan:
    """The plan of a run that has not finished, ready to go on."""
    plan = RunFolder(run).plan()
    if is_locked(run / LOCK):
        raise UserError(f"{run}: another process is at work in it")
    RunFolder(run).reopen()
    return plan


def _new_folder(folder: ServerFolder, plan: Plan, wanted: Path | None) -> Path:
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{plan.recipe}"
    run = (wanted or folder.runs / name).absolute()
    try:
        run.mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"{run} exists already: a run needs a folder of its own") from None
    # Where a local run has its logs, too.
    (run / "logs").symlink_to(folder.logs, target_is_directory=True)
    return run


def _await_end(control: Control, run_id: int, run: Path, plan: Plan, console: Console) -> None:
    """Follow the run; say how to go on where it is stopped, or its ServerApp was killed."""

    def status() -> tuple[str, str]:
        try:
            return control.status(run_id)
        except UnreachableError:
            raise RunFailed(f"the server has stopped; {_way_on(run)}") from None

    try:
        follow(run, plan, console, status)
    except ServerAppKilled as error:
        raise RunFailed(f"{error}; {_way_on(run)}") from None
    except KeyboardInterrupt:
        with suppress(UserError, UnreachableError):  # it may have ended by now
            control.stop(run_id)
        console.print(_way_on(run), highlight=False, markup=False, soft_wrap=True)
        raise


def _way_on(run: Path) -> str:
    if (run / "run.json").exists():
        return f"`covey submit --resume {shlex.quote(str(run))}` goes on from the last round"
    return "it had not begun: there is nothing to go on from"


def _conclude(run: Path, console: Console) -> dict[str, object]:
    report = write_report(run)
    record = read_run(run)
    show_result(console, record)
    console.print(f"report: {report}", highlight=False, markup=False, soft_wrap=True)
    return {"run": run.name, "folder": str(run), "stages": summary_rows(record)}


def _absolute(recipe: str) -> str:
    """A recipe for a ServerApp that starts elsewhere."""
    return str(Path(recipe).absolute()) if recipe.endswith(".toml") else recipe


def write_figures(path: Path, figures: Mapping[str, object]) -> None:
    """The figures as indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
