"""Methods that need the forgotten images: their site unlearns them, then all train for a round.

    θ_R -> θ'  at the site that takes images back, by a loss of these and of those that it keeps
       -> the last round again, over what is left everywhere, with a new projector, as `fine-tune`,
with θ_R the model after all training, its projector too. The methods are in `common/unlearning/`.
(One site unlearns, a few rounds of the others repair: Halimi et al., arXiv 2207.05521.)
"""

from dataclasses import replace

import numpy as np

from common.config.given import Scalar
from common.config.options import Plan
from common.unlearning import build_unlearning, parameters_of
from common.unlearning.base import Unlearning
from common.utils.errors import UserError
from server.forgetting.method import Method, Past, trained_again
from server.model import GlobalModel
from server.run import kept
from server.run.folder import TO_UNLEARN, Checkpoint


class AtSite(Method):
    """The method `kind` of unlearning."""

    at_site = True

    def __init__(self, kind: type[Unlearning]) -> None:
        self.name, self.title = kind.name, kind.title

    def start(self, plan: Plan, past: Past, model: GlobalModel) -> Checkpoint | None:
        """Before the last round, from the state after all training."""
        if past.gone:
            raise UserError(
                f"site {past.gone[0]} leaves with all its images, and {self.name} needs it: "
                "--method exact-sums, fine-tune, not or retrain do not"
            )
        if plan.byzantine:
            raise UserError(
                f"{self.name}: one site alone would say what the model becomes, and this run was "
                f"to withstand {plan.byzantine} Byzantine ones: --method retrain"
            )
        stage, again = trained_again(plan, past.reached, model)
        trained: Checkpoint | None = past.reached
        if stage + 1 < len(plan.stages):
            state = kept.trained(past.run)
            trained = None if state is None else past.read(state)
        if trained is None:
            raise UserError(
                f"{past.run.id} has not kept the projector that it was trained with, which "
                f"{self.name} needs: --method exact-sums, fine-tune, not or retrain do not"
            )
        memory = {TO_UNLEARN: np.ones(1, np.float32)}
        return replace(again, groups=trained.groups, memory=memory)

    def parameters(self) -> dict[str, Scalar]:
        """All of the method's, as they are to be recorded."""
        return parameters_of(build_unlearning(self.name, {}))
