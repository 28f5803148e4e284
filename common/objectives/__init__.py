"""The objectives, by name, and how a stage's objective is put together."""

from collections.abc import Callable, Mapping
from typing import Any

from common.config.given import Scalar
from common.config.images import kebab
from common.config.options import Stage
from common.config.parameters import read_parameters
from common.models.encoders import Encoder
from common.models.registry import in_folder
from common.objectives.base import Objective
from common.objectives.cluster import Cluster
from common.objectives.cluster import Parameters as ClusterParameters
from common.objectives.contrastive_quant import Parameters as ContrastiveQuantParameters
from common.objectives.contrastive_quant import contrastive_quant
from common.objectives.decorrelated import Decorrelated
from common.objectives.decorrelated import Parameters as DecorrelatedParameters
from common.objectives.regularised import Regularised
from common.objectives.uniform import Parameters as UniformParameters
from common.objectives.uniform import Uniform
from common.objectives.wrapper import Wrapper
from common.utils.errors import UserError, unknown

OBJECTIVES = in_folder(__name__, __path__, Objective)
"""Stage-1 objectives: each is built as `Kind(encoder, settings, clusters)`."""

WRAPPERS: dict[str, tuple[type[Any], Callable[[Encoder, Any, int, Objective], Wrapper]]] = {
    "cluster": (ClusterParameters, Cluster),
    "fedu2": (UniformParameters, Uniform),
    "decorrelated": (DecorrelatedParameters, Decorrelated),
    "contrastive-quant": (ContrastiveQuantParameters, contrastive_quant),
}
"""Objectives around a stage-1 objective, with the dataclass of their own parameters: each is built
as `Kind(encoder, settings, clusters, inner)`. The parameter `first` names what is inside, which
gets all parameters that the wrapper does not have itself; "fedu2/byol" is a wrapper inside."""

NAMES = (*OBJECTIVES, *WRAPPERS)


def build_objective(stage: Stage, encoder: Encoder, clusters: int) -> Objective:
    """The stage's objective with its heads around `encoder`; `UserError` for unknown names."""
    *around, (first, settings) = nested(stage.objective, stage.parameters)
    objective: Objective = OBJECTIVES[first](encoder, settings, clusters)
    if stage.contrastive_weight:
        objective = Regularised(objective, stage.contrastive_weight)
    for name, own in reversed(around):
        _, wrapper = WRAPPERS[name]
        objective = wrapper(encoder, own, clusters, objective)
    return objective


def nested(name: str, given: Mapping[str, Scalar]) -> list[tuple[str, Any]]:
    """An objective and those inside it, each with its parameters, from the outermost to stage 1's
    own. `first` of a wrapper may name a wrapper again: "contrastive-quant/byol"."""
    if name in OBJECTIVES:
        kind = OBJECTIVES[name].parameters_type
        return [(name, read_parameters(kind, given, f"objective {name!r}"))]
    if name not in WRAPPERS:
        raise unknown("objective", name, NAMES)
    settings_type, _ = WRAPPERS[name]
    own = {kebab(field) for field in settings_type.__dataclass_fields__}
    mine = {k: v for k, v in given.items() if k in own}
    around = read_parameters(settings_type, mine, f"objective {name!r}")
    rest = {key: value for key, value in given.items() if key not in own}
    first, _, inside = around.first.partition("/")
    possible = WRAPPERS if inside else NAMES
    if first not in possible:
        raise unknown(f"first objective of {name!r}", first, possible)
    if name in around.first.split("/"):
        raise UserError(f"objective {name!r} has itself as first objective: {around.first!r}")
    return [(name, around), *nested(first, {**rest, "first": inside} if inside else rest)]
