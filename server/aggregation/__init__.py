"""How the server makes one model of the sites': one rule, one file.

A rule folds replies as they arrive and never keeps them, unless its mathematics needs all of them
at once, which its docstring then says. To add one, write `server/aggregation/<name>.py` with a
class as `Aggregation` describes, and enter it in `AGGREGATIONS`. One that withstands Byzantine
sites is a function of all updates (`rows.Rule`) and goes into `ROBUST`, with the sites that it
needs into `common/config/byzantine.py`.
"""

from collections.abc import Callable
from typing import Protocol

from common.config.byzantine import MARGIN
from common.protocol.layout import Layout
from common.protocol.messages import Floats, Groups
from common.utils.errors import unknown
from server.aggregation.clipping import norm_clipping
from server.aggregation.collected import Collected, Suspects
from server.aggregation.geometric_median import geometric_median
from server.aggregation.krum import krum, multi_krum
from server.aggregation.l_dawa import LayerwiseCosine, NormalisedLayerwiseCosine
from server.aggregation.mean import LIMIT, ExactSum, WeightedMean
from server.aggregation.median import median
from server.aggregation.mgda import MultiGradient
from server.aggregation.orchestra import Orchestra
from server.aggregation.rows import Rule
from server.aggregation.trimmed_mean import trimmed_mean

__all__ = [
    "AGGREGATIONS",
    "LIMIT",
    "ROBUST",
    "Aggregation",
    "ExactSum",
    "Suspects",
    "WeightedMean",
    "aggregation",
]


class Aggregation(Protocol):
    """Folds the sites' groups (name -> flat float32 array) into one set of groups."""

    @property
    def examples(self) -> int:
        """Images behind what was folded."""
        ...

    def fold(self, groups: Groups, examples: int) -> None:
        """Add one site's arrays. `ValueError`, before anything is added, for what does not fit.

        The result must not depend on the order of the calls.
        """
        ...

    def result(self) -> dict[str, Floats]:
        """The new groups. `ValueError` if nothing was folded."""
        ...


def mean(layout: Layout, received: Groups, examples: int) -> Aggregation:
    """FedAvg's weighted mean."""
    return WeightedMean({name: len(array) for name, array in received.items()}, examples)


AGGREGATIONS: dict[str, Callable[[Layout, Groups, int], Aggregation]] = {
    "mean": mean,
    "l-dawa": LayerwiseCosine,
    "l-dawa-normalised": NormalisedLayerwiseCosine,
    "mgda": MultiGradient,
    "orchestra": Orchestra,
}
"""name -> builder from the layout of the stage's shared modules, the groups that the sites were
sent, and the most examples that there can be in all."""


ROBUST: dict[str, Rule] = {
    "median": median,
    "trimmed-mean": trimmed_mean,
    "norm-clipping": norm_clipping,
    "geometric-median": geometric_median,
    "krum": krum,
    "multi-krum": multi_krum,
}
"""name -> what makes one update of all of them, though some sites may be Byzantine."""


def aggregation(
    name: str, layout: Layout, received: Groups, examples: int, suspects: Suspects | None = None
) -> Aggregation:
    """The rule called `name`; `UserError` for an unknown name. `suspects`: how many sites a robust
    one is to withstand."""
    if name in ROBUST:
        assumed = suspects or Suspects()
        return Collected(name, ROBUST[name], MARGIN[name], received, examples, assumed)
    if name not in AGGREGATIONS:
        raise unknown("aggregation", name, [*AGGREGATIONS, *ROBUST])
    return AGGREGATIONS[name](layout, received, examples)
