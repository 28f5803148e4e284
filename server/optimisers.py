"""What the server does with the sites' mean: takes it, or steps towards it with a memory.

The update Δ = mean - sent is treated as a negative gradient (Reddi et al., "Adaptive Federated
Optimization", ICLR 2021, arXiv 2003.00295). Running statistics are never stepped: they are the
mean. To add an optimiser, write its step here and enter it in `OPTIMISERS`.
"""

from collections.abc import Callable, Mapping

from common.messages import Floats, Groups

Memory = Mapping[str, Floats]
Step = Callable[[Groups, Groups, Memory, float], tuple[dict[str, Floats], dict[str, Floats]]]


def take(
    sent: Groups, mean: Groups, memory: Memory, learning_rate: float
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """FedAvg: the mean itself; no memory."""
    return dict(mean), {}


OPTIMISERS: dict[str, Step] = {
    "none": take,
}
"""name -> step from what was sent, the sites' mean, the optimiser's memory (flat arrays by name,
kept in the checkpoint, empty when a stage begins) and the learning rate, to the new groups and the
new memory."""
