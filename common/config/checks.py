"""Every name in a plan, checked before anything is started."""

import copy

from common.augmentations import PRESETS
from common.config.byzantine import ROBUST_CENTROIDS, check_byzantine
from common.config.options import Plan, Stage
from common.config.synchronous import check_synchronous
from common.data.partition import parse
from common.models.model import Model
from common.models.pretrained.settle import encoder_of
from common.objectives import OBJECTIVES
from common.objectives.base import Objective
from common.solvers.base import LandmarkSums, Moments, Patches, Solver, Trial, statistics_of, unit
from common.stages import build_model
from common.utils.errors import UserError, unknown

OWN = "own"  # the partition of sites that hold their own images: there is nothing to spread

PARTICULAR = {kind.aggregation for kind in OBJECTIVES.values()}  # aggregations of one objective


def check_plan(plan: Plan) -> None:
    """`UserError` if the plan names an unknown encoder, objective, solver, parameter,
    augmentation or partition, or asks for what its number of sites does not allow."""
    check_byzantine(plan)
    _ = plan.preparation  # its window, background and pages are checked as it is made
    encoder = encoder_of(plan, channels=1, side=32, store=None)
    for stage in plan.stages:
        model = build_model(stage, copy.copy(encoder), clusters=2)
        if stage.features == "kept":
            _check_kept(stage, model)
        elif any(isinstance(s, Trial | LandmarkSums) for s in statistics_of(model).values()):
            raise UserError(f"stage {stage.name!r}: {stage.method} needs features = 'kept'")
        if stage.centroids in ROBUST_CENTROIDS and isinstance(model, Solver) and model.has_starts:
            raise UserError(
                f"stage {stage.name!r}: landmarks-from = 'sums' adds up what every site sends, and "
                f"centroids {stage.centroids!r} needs single answers"
            )
        if stage.rounds and not isinstance(model, Objective):
            raise UserError(
                f"stage {stage.name!r}: {stage.method} is solved, not trained: rounds must be 0, "
                f"not {stage.rounds} (recipes that train: `covey recipes`)"
            )
        if stage.synchronous and stage.objective:
            check_synchronous(plan, stage, model)
        needed = model.aggregation if isinstance(model, Objective) else ""
        if needed != stage.aggregation and (needed or stage.aggregation in PARTICULAR):
            raise UserError(
                f"stage {stage.name!r}: aggregation {stage.aggregation!r} does not go with "
                f"{'objective' if stage.objective else 'solver'} {stage.method!r}"
            )
    if plan.views not in ("auto", *PRESETS):
        raise unknown("augmentation", plan.views, ("auto", *PRESETS))
    if plan.partition != OWN:
        parse(plan.partition)


def _check_kept(stage: Stage, model: Model) -> None:
    """Only what does not change is kept: outputs of an encoder that the stage neither trains nor
    solves, summed up as they are."""
    asked = statistics_of(model).values()
    if not isinstance(model, Solver) or any(isinstance(each, Patches) for each in asked):
        raise UserError(
            f"stage {stage.name!r}: features = 'kept' is for solvers behind a fixed encoder, "
            f"and {stage.method} changes it"
        )
    if any(isinstance(each, Moments) and each.points is not unit for each in asked):
        raise UserError(
            f"stage {stage.name!r}: features = 'kept' sums up encoder outputs of unit length, and "
            f"{stage.method} something else"
        )
