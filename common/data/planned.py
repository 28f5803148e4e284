"""The data of a plan where all of it is on this machine: a local federation or a simulation."""

from common.config.options import Plan
from common.data import ImageData, load
from common.data.partition import Partition, make_partition
from common.utils.errors import UserError


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
