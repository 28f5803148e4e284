"""`covey submit`: one run on a running server, over the sites that have joined it."""

import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from common.config import recipes
from common.config.checks import OWN
from common.config.options import Plan
from common.record.reader import Follower, has_run, read_settings
from common.utils.errors import RunFailed, UserError
from common.utils.names import portable
from deploy.coordinator.folder import NOT_RUNNING, ServerFolder
from deploy.coordinator.options import NOT_OF_SUBMIT
from deploy.engines.run_locally import follow
from deploy.engines.runs import (
    absolute_places,
    absolute_recipe,
    checked,
    conclude,
    new_folder,
    resumed,
    run_config,
    way_on,
)
from deploy.flower.bundle import write_bundle
from deploy.flower.control import RUN_FOLDER, Control, UnreachableError
from deploy.terminal.progress import show_event

LOOK = 1.0  # seconds between two questions to the SuperLink
ENDED, COMPLETED = "finished", "finished:completed"
STOPPED = "finished:stopped"  # by `covey stop`, or Flower's own command
PATIENCE = 30.0  # seconds for a SuperLink that is being restarted
THEIRS = "each site's own"  # what the report calls data that is not the server's to name


@dataclass(frozen=True)
class Order:
    """What is to be run: a recipe with options, into `run_folder` (None: a new one of the server);
    or the run in `resume` again."""

    recipe: str
    options: Mapping[str, str]
    run_folder: Path | None = None
    resume: Path | None = None


@dataclass(frozen=True)
class _Watch:
    """A run as the SuperLink knows it."""

    control: Control
    run_id: int

    def status(self) -> tuple[str, str]:
        """(status, details) of the run; `RunFailed` where it was stopped."""
        found = self.control.status(self.run_id)
        if found[0] == STOPPED:
            raise RunFailed("the run was stopped")
        return found


def submit_run(folder: ServerFolder, order: Order, console: Console) -> dict[str, object]:
    """Carry out `order` on the server in `folder`, show it to its end, and return its figures.
    Interrupted, it stops the run.

    `UserError` where the server is not running, no site is online, or an option makes no sense
    here; `RunFailed` where the run ends without a result.
    """
    _check_options(order)
    control = _running(folder)
    online, has_ended = _online(control, folder), False
    if order.resume:
        run, recipe, options = order.resume.absolute(), "", dict[str, str]()
        has_ended = has_run(run) and read_settings(run).status == "finished"
        plan = resumed(run)
    else:
        recipe, options = absolute_recipe(order.recipe), _options(order, online, folder)
        plan = checked(recipes.load(recipe).plan(options))
        run = new_folder(folder.runs, plan.recipe, order.run_folder)
        folder.link_logs(run)
    watch = _started(control, run, recipe, options)
    what = (
        f"{plan.recipe} over {plan.expected_sites} sites, {online} of them online; run folder {run}"
    )
    console.print(what, style="dim", highlight=False, markup=False, soft_wrap=True)
    if has_ended:
        _await_delivery(run, plan, console, watch)
    else:
        _await_end(folder, run, plan, console, watch)
    return conclude(run, console)


def meet_again(folder: ServerFolder, run: Path, console: Console) -> None:
    """Greet the sites of a run that has finished, which say then what they offer to call its
    clusters, and hand its model to those that do not have it as it is now. `UserError`,
    `RunFailed` as of `submit_run`."""
    control = _running(folder)
    if read_settings(run).status != "finished":
        raise UserError(f"{run} has not finished")
    plan = resumed(run)
    _await_delivery(run, plan, console, _started(control, run, "", {}))


def _running(folder: ServerFolder) -> Control:
    """The running server's; `UserError` where it is not running."""
    folder.settings()
    control = folder.control(PATIENCE)
    if control is None:
        raise UserError(f"{NOT_RUNNING} {folder.path}")
    return control


def _started(control: Control, run: Path, recipe: str, options: Mapping[str, str]) -> _Watch:
    """The run in this folder, started."""
    where = portable(str(run))
    config = run_config(recipe, options, **{RUN_FOLDER: where, "engine": "server"})
    with tempfile.TemporaryDirectory(prefix="covey-") as scratch:
        bundle = write_bundle(Path(scratch), config)
        return _Watch(control, control.submit(bundle, options={RUN_FOLDER: where}))


def _check_options(order: Order) -> None:
    for name, why in NOT_OF_SUBMIT.items():
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
    own = {"dataset": THEIRS, "partition": OWN}
    return {"sites": str(online), **absolute_places(order.options), **own}


def _online(control: Control, folder: ServerFolder) -> int:
    try:
        return list(control.sites().values()).count("online")
    except UnreachableError:
        raise UserError(f"the SuperLink does not answer (logs: {folder.logs})") from None


def _await_delivery(run: Path, plan: Plan, console: Console, watch: _Watch) -> None:
    """Of a run that had finished before: wait until its model is handed over to the sites that did
    not have it, and show that."""
    follower, status, details = Follower(run), "", ""
    while not status.startswith(ENDED):
        time.sleep(LOOK)
        status, details = watch.status()
        for event in follower.events():
            show_event(console, event, plan.rounds)
    if status != COMPLETED:
        raise RunFailed(f"the model was not handed over: {details or status}")


def _await_end(
    folder: ServerFolder, run: Path, plan: Plan, console: Console, watch: _Watch
) -> None:
    """Follow the run; say how to go on where it ends early."""
    command = ("submit", "--server", str(folder.path))
    try:
        follow(run, plan, console, watch.status)
    except UnreachableError:
        raise RunFailed(f"the server has stopped; {way_on(run, *command)}") from None
    except RunFailed as error:
        raise RunFailed(f"{error}; {way_on(run, *command)}") from None
    except KeyboardInterrupt:
        with suppress(UserError, UnreachableError):  # it may have ended by now
            watch.control.stop(watch.run_id)
        console.print(
            way_on(run, *command),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        raise
