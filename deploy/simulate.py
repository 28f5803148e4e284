"""`covey simulate`: the same ServerApp and ClientApp, with all sites in this process."""

from pathlib import Path

import torch

from client.workshop import Workshop, pick_device
from common.data.planned import planned_data, planned_partition
from common.options import Plan
from deploy.in_process import grid_of, sites_of
from server.app import run
from server.run_folder import RunFolder


def simulate(plan: Plan, folder: Path, threads: int = 0) -> None:
    """Run `plan` with its sites in this process, into `folder`; resumes from its checkpoint."""
    if threads:
        torch.set_num_threads(threads)
    data = planned_data(plan)
    partition = planned_partition(plan, data)
    partition.save(folder / "partition.json")
    workshop = Workshop(pick_device(plan.device))
    grid = grid_of(sites_of(data, partition, folder / "sites", workshop))
    run(grid, plan, RunFolder(folder), "in-process")


