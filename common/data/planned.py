"""The data of a plan where all of it is on this machine: a local federation or a simulation."""

from common.data import ImageData, load
from common.data.partition import Partition, make_partition
from common.options import Plan


def planned_data(plan: Plan) -> ImageData:
    """The images that the plan names."""
    return load(plan.dataset, images=plan.images, seed=plan.seed, side=plan.side)


def planned_partition(plan: Plan, data: ImageData) -> Partition:
    """Which of them each site holds."""
    return make_partition(
        data.labels,
        plan.partition,
        plan.sites,
        plan.seed,
        size_skew=plan.size_skew,
        images=len(data.images),
    )
