"""The encoder as it is; all that closes a run is solved again from the sums of what is left.

With an encoder f that stays, and s(x) what an image x adds to a sum,
    S' = S - Σ_{x forgotten} s(x) = Σ_{x left} s(x),
which holds for the projection's moments, the landmarks' affinity, k-means and all figures. What was
made of images in small groups, and remembers them most (landmarks, means of some twenty images), is
so made anew without them; and the projector that was trained is not taken over. The encoder itself
has seen the images: this is exact for all but the encoder. (Exact unlearning of closed-form heads
on frozen features: arXiv 2603.12977; of federated clustering: Pan et al., ICLR 2023.)
"""

from common.config.options import Plan
from server.forgetting.method import Method, Past, closing, encoder_alone
from server.model import GlobalModel
from server.run.folder import Checkpoint


class ExactSums(Method):
    """The default for recipes that train."""

    name = "exact-sums"
    title = "the encoder as it is; projection, landmarks, clusters and figures solved again"

    def start(self, plan: Plan, past: Past, model: GlobalModel) -> Checkpoint | None:
        """After the training, before what closes the run."""
        return encoder_alone(plan, closing(plan), past.reached, model)
