"""What does not go together in a synchronous stage, said in a line before anything is started."""

from torch.nn.modules.batchnorm import _BatchNorm

from common.config.options import Plan, Stage
from common.models.model import Model
from common.models.normalisation import GROUPS
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


def check_synchronous(plan: Plan, stage: Stage, model: Model) -> None:
    """`UserError` where the synchronous `stage` cannot be, with its `model` as it is built."""
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
    mixes = any(isinstance(module, _BatchNorm) for module in model.modules())
    if mixes and plan.normalisation not in GROUPS:
        raise UserError(
            f"{where}: BatchNorm would normalise each image by its own site's batch, so "
            f"normalisation must be {' or '.join(GROUPS)}, not {plan.normalisation}"
        )
