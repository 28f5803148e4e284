"""The plan anew, from its beginning: the yardstick of all other methods."""

from common.config.options import Plan
from server.forgetting.method import Method, Past
from server.model import GlobalModel
from server.run.folder import Checkpoint


class Retrain(Method):
    """Nothing of the earlier run is kept. The result is that of a run that never had the images, to
    the bit (on a CPU). For a recipe without training that is all there is to do: everything is
    solved from sums, whose summands leave."""

    name = "retrain"
    title = "the plan anew, from its beginning"
    exact = True

    def start(self, plan: Plan, past: Past, model: GlobalModel) -> Checkpoint | None:
        """From the beginning."""
        return None
