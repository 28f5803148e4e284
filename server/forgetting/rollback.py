"""Back to the state before the site had come, and on from there without what it takes back.

    θ_0 -> ... -> θ_r -> θ'_{r+1} -> ... -> θ'_R,   r: the last round before the site came;
no image of the site has touched θ_r, so that nothing of what it takes back is in what comes of it.
For a site that was there from the first round r = 0, and that is retraining. What the other sites
keep to themselves between rounds (targets, queues) begins anew, as after a loss of their folders.
(The plain form of forgetting by what a server has stored of a training: Liu et al., FedEraser,
IWQoS 2021, who then calibrate the updates of later rounds; here none of those is used.)
"""

from common.config.options import Plan
from server.forgetting.method import Method, Past, check_published
from server.model import GlobalModel
from server.run import kept
from server.run.folder import Checkpoint


class Rollback(Method):
    """Exact: nothing of the images is in the state that it goes on from."""

    name = "rollback"
    title = "back to before the site had come, and on from there without the images"
    exact = True
    before_the_site = True

    def start(self, plan: Plan, past: Past, model: GlobalModel) -> Checkpoint | None:
        """The latest state that the run has kept from before the sites came, or the beginning."""
        state = kept.before(past.run, past.sites)
        if state is None:
            return None
        check_published(plan)
        return past.read(state)
