"""How a site takes the global model over before it trains: replaced by it, or merged with its own.

A rule gets the live modules, which hold the received global model, and what the site's own were
after its last training. It changes the modules in place and returns what it wants to remember. To
add one, write it here, enter it in `MERGES`, and test its limiting cases.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Merging:
    """What a merge rule works on.

    `modules`: the shared modules by name, holding the global model; the rule may change them.
    `own`: the site's parameters after its last training, by "module/parameter"; empty when it takes
    part for the first time. `memory`: what the rule returned last time. `missed`: the site did not
    take part in the round before. `strength`: the stage's `merge-strength`.
    """

    modules: Mapping[str, nn.Module]
    own: Mapping[str, Tensor]
    memory: Mapping[str, Tensor]
    missed: bool
    strength: float


Memory = dict[str, Tensor]


def replace(merging: Merging) -> Memory:
    """The global model, as received: FedAvg."""
    return {}


MERGES: dict[str, Callable[[Merging], Memory]] = {
    "replace": replace,
}
