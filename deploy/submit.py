"""`covey submit`: one run on a running server, over the sites that have joined it."""

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from common import recipes
from common.errors import UserError
from common.objectives import check_plan
from common.options import Plan
from deploy.bundle import write_bundle
from deploy.control import Control, UnreachableError
from deploy.progress import show_result, summary_rows
from deploy.run_locally import RunFailed, follow
from deploy.run_options import run_config
from deploy.server import NOT_RUNNING, ServerFolder
from server.report import read_run, write_report

PATIENCE = 30.0  # seconds for a SuperLink that is being restarted
THEIRS = "each site's own"  # what the report calls data that is not the server's to name
REFUSED = {
    "dataset": "each site names its data when it joins (covey client join --data)",
    "images": "each site trains on all of its own images",
    "partition": "the images are where they are; partitions are for covey run and simulate",
    "size-skew": "the images are where they are; partitions are for covey run and simulate",
    "device": "each site chooses its own (covey client join --device)",
}


def submit(
    folder: ServerFolder,
    recipe: str,
    options: Mapping[str, str],
    run_folder: Path | None,
    console: Console,
) -> dict[str, object]:
    """Run `recipe` with `options` on the server in `folder`, show it to its end, and return its
    figures. Interrupted, it stops the run.

    `UserError` where the server is not running, no site is online, or an option makes no sense
    here; `RunFailed` where the run ends without a result.
    """
    for name, why in REFUSED.items():
        if name in options:
            raise UserError(f"--{name} is not an option of submit: {why}")
    folder.settings()
    control = folder.control(PATIENCE)
    if control is None:
        raise UserError(f"{NOT_RUNNING} {folder.path}")
    chosen = {**options, "sites": options.get("sites") or str(_online(control, folder))}
    chosen |= {"dataset": THEIRS, "partition": THEIRS}
    plan = recipes.load(recipe).plan(chosen)
    check_plan(plan)
    run = _new_folder(folder, plan, run_folder)
    name = str(Path(recipe).absolute()) if recipe.endswith(".toml") else recipe
    config = run_config(name, chosen, **{"run-folder": str(run), "engine": "server"})
    with tempfile.TemporaryDirectory(prefix="covey-") as scratch:
        run_id = control.submit(write_bundle(Path(scratch), config))
    console.print(
        f"[dim]{plan.recipe} over {plan.sites} sites, run folder {run}[/]",
        highlight=False,
        soft_wrap=True,
    )
    try:
        follow(run, plan, console, lambda: _status(control, run_id))
    except KeyboardInterrupt:
        control.stop(run_id)
        raise
    return _conclude(run, console)


def _online(control: Control, folder: ServerFolder) -> int:
    try:
        count = list(control.sites().values()).count("online")
    except UnreachableError:
        raise UserError(f"the SuperLink does not answer (logs: {folder.logs})") from None
    if not count:
        raise UserError(
            f"no site is online: see covey server sites {folder.path}, "
            "or say how many to wait for with --sites"
        )
    return count


def _status(control: Control, run_id: int) -> tuple[str, str]:
    try:
        return control.status(run_id)
    except UnreachableError:
        raise RunFailed("the server has stopped: the run goes no further") from None


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


def _conclude(run: Path, console: Console) -> dict[str, object]:
    report = write_report(run)
    record = read_run(run)
    show_result(console, record)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)
    return {"run": run.name, "folder": str(run), "stages": summary_rows(record)}


def write_figures(path: Path, figures: Mapping[str, object]) -> None:
    """The figures as indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
