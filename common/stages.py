"""The model of a plan's stage: its objective or its solver around the plan's encoder.

Server and sites build the same modules from the same plan.
"""

from dataclasses import asdict
from typing import Any

import torch

from common.config.images import kebab
from common.config.options import Plan, Stage
from common.models.encoders import Encoder
from common.models.model import Model
from common.models.normalisation import normalise
from common.models.pretrained.settle import encoder_of
from common.models.pretrained.store import WeightStore
from common.objectives import build_objective, nested
from common.objectives.base import Objective
from common.objectives.pooled import Pooled
from common.solvers import build_solver, solver_parameters


def build_model(stage: Stage, encoder: Encoder, clusters: int) -> Model:
    """What the stage trains or solves, around `encoder`; `UserError` for unknown names."""
    build = build_solver if stage.solver else build_objective
    return build(stage, encoder, clusters)


def build_stage(
    plan: Plan,
    index: int,
    channels: int,
    side: int,
    clusters: int,
    weights: WeightStore | None = None,
) -> Model:
    """The model of stage `index` with a new encoder, initialised from the plan's seed alone; the
    global random state is left as it was. A pretrained encoder's are looked for in `weights`; where
    that is None, it has a shape and can be asked nothing."""
    encoder = encoder_of(plan, channels, side, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed + 1 + index)
        model = build_model(plan.stages[index], encoder, clusters)
    normalise(model, plan.normalisation, plan.head_normalisation)
    if plan.stages[index].synchronous and isinstance(model, Pooled):
        model.synchronise()
    return model


def trains_projector(model: Model, stage: Stage) -> bool:
    """Whether the stage, whose model it is, trains a projector: one that has parameters."""
    return (
        isinstance(model, Objective)
        and stage.rounds > 0
        and any(True for _ in model.projector.parameters())
    )


def settle_parameters(plan: Plan) -> Plan:
    """The plan with every parameter of its methods written out, so that it says the same when a
    default has changed."""
    stages = []
    for stage in plan.stages:
        written: dict[str, Any] = {}
        for settings in _settings(stage):
            written |= {kebab(k): v for k, v in asdict(settings).items()}
        stages.append(stage.model_copy(update={"parameters": written}))
    return plan.model_copy(update={"stages": tuple(stages)})


def _settings(stage: Stage) -> list[Any]:
    """The parameters of a stage's methods, from the innermost to the outermost."""
    if stage.solver:
        return [solver_parameters(stage.solver, stage.parameters)]
    return [settings for _, settings in reversed(nested(stage.objective, stage.parameters))]
