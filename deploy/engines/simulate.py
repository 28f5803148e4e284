"""`covey simulate`: the same ServerApp and ClientApp, with all sites in this process."""

from collections.abc import Callable
from pathlib import Path

from client.workbench import Workshop, pick_device
from common.config.options import Plan
from common.data.planned import partition_in, planned_data, taken_in
from common.record.schema import Event
from deploy.engines.in_process import grid_of, sites_of
from server.app import run
from server.run.folder import RunFolder

Watch = Callable[[Event], None]


def simulate(
    plan: Plan,
    folder: Path,
    watch: Watch | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Run `plan` with its sites in this process, into `folder`; resumes from its checkpoint.

    `watch` is told each event of the run, `say` what became of the files of its folder of images,
    line by line.
    """
    workshop = Workshop(pick_device(plan.device))
    data = planned_data(plan)
    for line in data.account.lines() if data.account else ():
        say(line)
    partition = partition_in(folder, plan, data)
    grid = grid_of(sites_of(data, partition, folder / "sites", workshop, taken_in(folder)))
    run_folder = RunFolder(folder, watch)
    with run_folder.held():
        run(grid, plan, run_folder, "in-process")
