"""The objectives, by name, and how a stage's objective is put together."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch

from common.config.options import Plan, Stage, kebab
from common.models.encoders import Encoder, build_encoder
from common.models.normalisation import GROUPS, without_batch_norm
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
from common.utils.errors import UserError, unknown


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
gets all parameters that the wrapper does not have itself; "fedu2/byol" is a wrapper inside."""

NAMES = (*OBJECTIVES, *WRAPPERS)

TRAINED = tuple(n for n in NAMES if n in WRAPPERS or OBJECTIVES[n].trains)
"""Those that have a loss."""


def build_objective(stage: Stage, encoder: Encoder, clusters: int) -> Objective:
    """The stage's objective with its heads around `encoder`; `UserError` for unknown names."""
    *around, (first, settings) = _nested(stage.objective, stage.parameters)
    objective: Objective = OBJECTIVES[first](encoder, settings, clusters)
    if stage.contrastive_weight:
        objective = Regularised(objective, stage.contrastive_weight)
    for name, own in reversed(around):
        _, wrapper = WRAPPERS[name]
        objective = wrapper(encoder, own, clusters, objective)
    return objective


def settle_parameters(plan: Plan) -> Plan:
    """The plan with every parameter of its objectives written out, so that it says the same when a
    default has changed."""
    stages = []
    for stage in plan.stages:
        written: dict[str, Any] = {}
        for _, settings in reversed(_nested(stage.objective, stage.parameters)):
            written |= {kebab(k): v for k, v in asdict(settings).items()}
        stages.append(stage.model_copy(update={"parameters": written}))
    return plan.model_copy(update={"stages": tuple(stages)})


def _nested(name: str, given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """An objective and those inside it, each with its parameters, from the outermost to stage 1's
    own. `first` of a wrapper may name a wrapper again: "contrastive-quant/byol"."""
    if name in OBJECTIVES:
        return [(name, read_parameters(OBJECTIVES[name].parameters_type, given, name))]
    if name not in WRAPPERS:
        raise unknown("objective", name, NAMES)
    settings_type, _ = WRAPPERS[name]
    own = {kebab(field) for field in settings_type.__dataclass_fields__}
    around = read_parameters(settings_type, {k: v for k, v in given.items() if k in own}, name)
    rest = {key: value for key, value in given.items() if key not in own}
    first, _, inside = around.first.partition("/")
    possible = WRAPPERS if inside else NAMES
    if first not in possible:
        raise unknown(f"first objective of {name!r}", first, possible)
    if name in around.first.split("/"):
        raise UserError(f"objective {name!r} has itself as first objective: {around.first!r}")
    return [(name, around), *_nested(first, {**rest, "first": inside} if inside else rest)]


def build_stage(plan: Plan, index: int, channels: int, side: int, clusters: int) -> Objective:
    """The objective of stage `index` with a new encoder, initialised from the plan's seed alone.

    Server and sites build the same modules from the same plan; the global random state is left as
    it was.
    """
    encoder = build_encoder(plan.encoder, channels, side, plan.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed + 1 + index)
        objective = build_objective(plan.stages[index], encoder, clusters)
    if plan.normalisation in GROUPS:
        without_batch_norm(objective, GROUPS[plan.normalisation])
    return objective
