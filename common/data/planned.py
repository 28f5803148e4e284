"""The data of a plan where all of it is on this machine: a local federation or a simulation."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from common.config.options import Plan
from common.data import ImageData, load
from common.data.partition import Partition, make_partition
from common.record import follow_up, forgetting
from common.utils.errors import UserError

PARTITION = "partition.json"
TAKEN = "taken-back.json"
"""Of a run by a method that needs them once more: the images that leave, by site."""


def planned_data(plan: Plan) -> ImageData:
    """The images that the plan names."""
    return load(plan.dataset, images=plan.images, seed=plan.seed, how=plan.preparation)


def planned_partition(plan: Plan, data: ImageData) -> Partition:
    """Which of them each site holds; with `alone`, the one part of the site that takes part."""
    partition = make_partition(
        data.labels,
        plan.partition,
        plan.sites,
        plan.seed,
        size_skew=plan.size_skew,
        images=len(data.images),
    )
    if not plan.alone:
        return partition
    if plan.alone > plan.sites:
        raise UserError(f"alone: there is no site {plan.alone} of {plan.sites}")
    return Partition(partition.spec, partition.seed, (partition.sites[plan.alone - 1],))


def partition_in(folder: Path, plan: Plan, data: ImageData) -> Partition:
    """The partition of the run in `folder`, which is in the folder then: the planned one, or that
    from which some images were taken. A site that has none left does not take part."""
    path = folder / PARTITION
    if _is_made_for_another(folder):
        return Partition.load(path)
    partition = planned_partition(plan, data)
    partition.save(path)
    return partition


def taken_in(folder: Path) -> Partition | None:
    """The images that leave, of a run in `folder` that needs them once more."""
    path = folder / TAKEN
    return Partition.load(path) if path.exists() else None


def remaining(folder: Path, data: ImageData) -> ImageData:
    """Those of `data`, which is all that the plan of the run in `folder` names, that the run has
    not been made without."""
    if not _is_made_for_another(folder):
        return data
    parts = Partition.load(folder / PARTITION).sites
    account = data.account  # of all files, which is not that of these images
    return replace(data.subset(np.sort(np.concatenate(parts))), account=account)


def _is_made_for_another(folder: Path) -> bool:
    """Whether the folder was made with a partition in it, which is an earlier run's."""
    return any((folder / name).exists() for name in (forgetting.FILE, follow_up.FILE))
