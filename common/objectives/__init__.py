"""The objectives, by name, and how a stage's objective is put together."""

from collections.abc import Mapping

import torch

from common.encoders import Encoder, build_encoder
from common.errors import unknown
from common.normalisation import without_batch_norm
from common.objectives.base import Objective, read_parameters
from common.objectives.byol import BYOL
from common.objectives.cluster import Cluster
from common.objectives.cluster import Parameters as ClusterParameters
from common.objectives.momentum_contrast import MomentumContrast
from common.objectives.regularised import Regularised
from common.objectives.simclr import SimCLR
from common.options import Plan, Scalar, Stage, kebab

OBJECTIVES: dict[str, type[Objective]] = {
    "simclr": SimCLR,
    "byol": BYOL,
    "momentum-contrast": MomentumContrast,
}
"""Stage-1 objectives. `cluster` (stage 2) wraps one of them."""

NAMES = (*OBJECTIVES, "cluster")


def build_objective(stage: Stage, encoder: Encoder, clusters: int) -> Objective:
    """The stage's objective with its heads around `encoder`; `UserError` for unknown names."""
    if stage.objective != "cluster":
        return _first(
            stage.objective, stage.parameters, stage.contrastive_weight, encoder, clusters
        )
    own = {kebab(name) for name in ClusterParameters.__dataclass_fields__}
    mine = {k: v for k, v in stage.parameters.items() if k in own}
    rest = {k: v for k, v in stage.parameters.items() if k not in own}
    parameters = read_parameters(ClusterParameters, mine, "cluster")
    first = _first(parameters.first, rest, stage.contrastive_weight, encoder, clusters)
    return Cluster(encoder, parameters, clusters, first)


def _first(
    name: str,
    parameters: Mapping[str, Scalar],
    contrastive_weight: float,
    encoder: Encoder,
    clusters: int,
) -> Objective:
    if name not in OBJECTIVES:
        raise unknown("objective", name, NAMES)
    kind = OBJECTIVES[name]
    settings = read_parameters(kind.parameters_type, parameters, name)
    objective: Objective = kind(encoder, settings, clusters)
    return Regularised(objective, contrastive_weight) if contrastive_weight else objective


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
