"""What does not go together in a synchronous stage, said in a line before anything is started."""

import copy

from torch.nn.modules.batchnorm import _BatchNorm

from common.config.options import Plan, Stage
from common.models.model import Model
from common.models.normalisation import GROUPS, normalise
from common.objectives import OBJECTIVES
from common.objectives.pooled import Pooled
from common.utils.errors import UserError

POSSIBLE = sorted(name for name, kind in OBJECTIVES.items() if issubclass(kind, Pooled))
ALONE = {
    "local_epochs": "a round is one step",
    "local_steps": "a round is one step",
    "merge": "a site has no model of its own",
    "proximal": "a site has no model of its own",
    "aggregation": "gradients are added up",
    "server_optimiser": "the server takes the stage's optimiser",
}
"""Options that must stay as they are by default, and why."""
MOST_NORMS = 6  # BatchNorms whose moments and slopes are exchanged in a step


def check_synchronous(plan: Plan, stage: Stage, model: Model) -> None:
    """`UserError` where the synchronous `stage` cannot be, with its `model` before its layers are
    normalised as the plan says."""
    where = f"stage {stage.name!r} is synchronous"
    if not isinstance(model, Pooled):
        raise UserError(
            f"{where}: the loss of {stage.method!r} is no function of means over the images; that "
            f"of {', '.join(POSSIBLE)} is"
        )
    for name, why in ALONE.items():
        default = Stage.model_fields[name].default
        if getattr(stage, name) != default:
            option = name.replace("_", "-")
            raise UserError(
                f"{where}: {why}, so {option} must be {default}, not {getattr(stage, name)}"
            )
    as_built: Model = copy.deepcopy(model)
    normalise(as_built, plan.normalisation, plan.head_normalisation)
    norms = sum(isinstance(module, _BatchNorm) for module in as_built.modules())
    if norms > MOST_NORMS:
        raise UserError(
            f"{where}: {norms} BatchNorms would take {2 * norms + 2} exchanges a step, so "
            f"normalisation must be {' or '.join(GROUPS)}, not {plan.normalisation}"
        )
    if norms and plan.batchnorm != "average":
        raise UserError(
            f"{where}: its BatchNorms are one for all sites, so batchnorm must be average"
        )
