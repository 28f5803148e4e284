"""Methods of forgetting, by name: one file each.

A recipe without training has one: everything anew from what is left, which is exact and cheap.
"""

from collections.abc import Mapping

from common.config.options import Plan
from common.unlearning import UNLEARNING
from common.utils.errors import UserError, unknown
from server.forgetting.at_site import AtSite
from server.forgetting.exact_sums import ExactSums
from server.forgetting.fine_tune import FineTune
from server.forgetting.method import Method, trains
from server.forgetting.negate import Negate
from server.forgetting.retrain import Retrain
from server.forgetting.rollback import Rollback

METHODS: Mapping[str, Method] = {
    each.name: each
    for each in (
        ExactSums(),
        FineTune(),
        Negate(),
        Rollback(),
        Retrain(),
        *map(AtSite, UNLEARNING.values()),
    )
}
EXACT = "exact"
"""What a method is called in the record of a recipe without training."""


def method_for(name: str, plan: Plan) -> tuple[str, Method]:
    """(what the record calls it, the method) called `name` ("": the one for the plan); `UserError`
    for an unknown one, or one that is only for recipes that train."""
    if name and name not in METHODS:
        raise unknown("method", name, METHODS)
    if not trains(plan):
        if name not in ("", Retrain.name):
            raise UserError(f"--method {name}: {plan.recipe} trains nothing, so that all is exact")
        return EXACT, METHODS[Retrain.name]
    chosen = METHODS[name or ExactSums.name]
    return chosen.name, chosen
