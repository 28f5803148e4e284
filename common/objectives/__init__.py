"""The objectives, by name, and how a stage's objective is put together."""

import inspect
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch

from common.encoders import Encoder, build_encoder
from common.errors import unknown
from common.normalisation import without_batch_norm
from common.objectives.base import Around, Objective, read_parameters
from common.objectives.cluster import Cluster
from common.objectives.cluster import Parameters as ClusterParameters
from common.objectives.contrastive_quant import Parameters as ContrastiveQuantParameters
from common.objectives.contrastive_quant import contrastive_quant
from common.objectives.decorrelated import Decorrelated
from common.objectives.decorrelated import Parameters as DecorrelatedParameters
from common.objectives.regularised import Regularised
from common.objectives.uniform import Parameters as UniformParameters
from common.objectives.uniform import Uniform
from common.options import Plan, Stage, kebab


def _in_this_folder() -> dict[str, type[Objective]]:
    """Every objective that a file of this folder defines, by its name."""
    found: dict[str, type[Objective]] = {}
    for file in iter_modules(__path__):
        module = import_module(f"{__name__}.{file.name}")
        for kind in filter(inspect.isclass, vars(module).values()):
            if issubclass(kind, Objective) and "name" in vars(kind):
                found[kind.name] = kind
    return found


OBJECTIVES = _in_this_folder()
"""Stage-1 objectives: each is built as `Kind(encoder, settings, clusters)`."""

WRAPPERS: dict[str, tuple[type[Any], Callable[[Encoder, Any, int, Objective], Around]]] = {
    "cluster": (ClusterParameters, Cluster),
    "fedu2": (UniformParameters, Uniform),
    "decorrelated": (DecorrelatedParameters, Decorrelated),
    "contrastive-quant": (ContrastiveQuantParameters, contrastive_quant),
}
"""Objectives around a stage-1 objective, with the dataclass of their own parameters: each is built
as `Kind(encoder, settings, clusters, inner)`. The parameter `first` names what is inside, which
gets all parameters that the wrapper does not have itself."""

NAMES = (*OBJECTIVES, *WRAPPERS)

TRAINED = tuple(n for n in NAMES if n in WRAPPERS or OBJECTIVES[n].trains)
"""Those that have a loss."""


def build_objective(stage: Stage, encoder: Encoder, clusters: int) -> Objective:
    """The stage's objective with its heads around `encoder`; `UserError` for unknown names."""
    first, settings, around = _settings(stage)
    objective: Objective = OBJECTIVES[first](encoder, settings, clusters)
    if stage.contrastive_weight:
        objective = Regularised(objective, stage.contrastive_weight)
    if around is None:
        return objective
    _, wrapper = WRAPPERS[stage.objective]
    return wrapper(encoder, around, clusters, objective)


def settle_parameters(plan: Plan) -> Plan:
    """The plan with every parameter of its objectives written out, so that it says the same when a
    default has changed."""
    stages = []
    for stage in plan.stages:
        _, settings, around = _settings(stage)
        written = {kebab(k): v for k, v in asdict(settings).items()}
        if around is not None:
            written |= {kebab(k): v for k, v in asdict(around).items()}
        stages.append(stage.model_copy(update={"parameters": written}))
    return plan.model_copy(update={"stages": tuple(stages)})


def _settings(stage: Stage) -> tuple[str, Any, Any | None]:
    """The stage-1 objective's name and parameters, and the parameters of what is around it."""
    name, given = stage.objective, stage.parameters
    if name not in WRAPPERS:
        if name not in OBJECTIVES:
            raise unknown("objective", name, NAMES)
        return name, read_parameters(OBJECTIVES[name].parameters_type, given, name), None
    settings_type, _ = WRAPPERS[name]
    own = {kebab(field) for field in settings_type.__dataclass_fields__}
    mine = {key: value for key, value in given.items() if key in own}
    around = read_parameters(settings_type, mine, name)
    if around.first not in OBJECTIVES:
        raise unknown(f"first objective of {name!r}", around.first, OBJECTIVES)
    rest = {key: value for key, value in given.items() if key not in own}
    kind = OBJECTIVES[around.first].parameters_type
    return around.first, read_parameters(kind, rest, around.first), around


def build_stage(plan: Plan, index: int, channels: int, side: int, clusters: int) -> Objective:
    """The objective of stage `index` with a new encoder, initialised from the plan's seed alone.

    Server and sites build the same modules from the same plan; the global random state is left as
    it was.
    """
    encoder = build_encoder(plan.encoder, channels, side, plan.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed + 1 + index)
        objective = build_objective(plan.stages[index], encoder, clusters)
    if plan.normalisation == "group":
        without_batch_norm(objective)
    return objective
