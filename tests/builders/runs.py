"""Small simulated federations, and what can be asked of their models."""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from common.config import recipes
from common.config.options import Plan
from common.data.planned import planned_data
from common.objectives.base import Objective
from common.protocol import layout
from common.stages import build_stage
from common.utils.seeds import generator
from deploy.engines.simulate import simulate

SMALL = {
    "dataset": "digits",
    "images": 120,
    "sites": 2,
    "partition": "iid",
    "encoder": "small-convnet",
    "clusters": 10,
    "rounds": 2,
    "local-epochs": 1,
    "batch-size": 32,
    "device": "cpu",
}

Groups = dict[str, np.ndarray]


def plan(recipe: str, **options) -> Plan:
    return recipes.load(recipe).plan({**SMALL, **options})


def run(folder: Path, recipe: str, **options) -> Groups:
    """The global model after a simulated federation."""
    simulate(plan(recipe, **options), folder)
    saved = load_file(folder / "checkpoint.safetensors")
    return {k.removeprefix("group/"): v for k, v in saved.items() if k.startswith("group/")}


def same(one: Groups, other: Groups) -> bool:
    """Whether all bits are the same."""
    assert one.keys() == other.keys()
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


def parameters(groups: Groups) -> np.ndarray:
    """All but running statistics, as one vector."""
    names = sorted(name for name in groups if not name.endswith(layout.BUFFERS))
    return np.concatenate([groups[name] for name in names])


def start_of(the_plan: Plan) -> Objective:
    data = planned_data(the_plan)
    objective = build_stage(the_plan, 0, data.channels, data.side, the_plan.clusters)
    return objective.to(memory_format=torch.channels_last)


def training_rows(the_plan: Plan, site: str, n: int) -> Tensor:
    """Which of a site's `n` images it trains on: all but the fifth that it keeps for evaluation."""
    order = torch.randperm(n, generator=generator("cpu", the_plan.seed, site, "split"))
    return order[round(n * the_plan.evaluation_share) :]
