"""A site without a resident trainer: plain `flwr run` and Flower's simulation engine.

The site is part `partition-id` of the run's partition (Flower's simulation numbers its nodes so);
the images come from the run's own options. What it keeps between rounds goes to `$COVEY_HOME`.
"""

from functools import lru_cache

from flwr.app import Context

from client.site import Site, open_site
from client.workbench import Workshop, pick_device
from common.config.options import Plan
from common.data import ImageData
from common.data.planned import planned_data, planned_partition
from common.protocol.messages import Instruction, decode
from common.protocol.records import Encoded
from common.utils.errors import UserError
from common.utils.home import covey_home


def answer_here(context: Context, record: Encoded) -> bytes:
    """Build the site that `context` describes, and let it answer."""
    index = context.node_config.get("partition-id")
    if not isinstance(index, int):
        raise UserError("the node config has neither trainer-socket nor partition-id")
    plan = Instruction.from_record(decode(record)).plan
    return _site(index, plan.to_json(), context.run_id).handle(record)


@lru_cache(maxsize=4)
def _site(index: int, plan_json: str, run_id: int) -> Site:
    plan = Plan.from_json(plan_json)
    name = f"site-{index}"
    folder = covey_home() / "simulation" / str(run_id) / name
    return open_site(name, _part(index, plan), folder, _workshop(plan.device))


@lru_cache(maxsize=1)
def _workshop(device: str) -> Workshop:
    return Workshop(pick_device(device))


def _part(index: int, plan: Plan) -> ImageData:
    data = planned_data(plan)
    partition = planned_partition(plan, data)
    if index >= len(partition.sites):
        raise UserError(f"there is no site {index}: the run has {plan.expected_sites} sites")
    return data.subset(partition.sites[index])
