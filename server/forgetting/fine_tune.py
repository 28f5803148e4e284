"""A new projector, and the last round of training again over what is left.

The projector remembers most of what is trained, and is not published; the encoder is trained on for
a round, from the objective
    L(f, g) over what is left,   f as it was, g new,
and all that closes the run is made anew. (The usual baseline: fine-tuning on retained data.)
"""

from common.config.options import Plan
from server.forgetting.method import Method, Past, trained_again
from server.model import GlobalModel
from server.run.folder import Checkpoint


class FineTune(Method):
    """What was learned fades, and nothing says how far: the audit does."""

    name = "fine-tune"
    title = "a new projector, and the last round again over what is left"

    def start(self, plan: Plan, past: Past, model: GlobalModel) -> Checkpoint | None:
        """Before the last round."""
        return trained_again(plan, past.reached, model)[1]
