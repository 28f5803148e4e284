"""What the server does with the sites' mean: takes it, or steps towards it with a memory.

The update Δ = mean - sent is treated as a negative gradient. Running statistics are never stepped:
they are the mean. To add an optimiser, write its step here and enter it in `OPTIMISERS`.

- `momentum` (FedAvgM): v ← β·v + Δ, w ← w + η·v, from v = 0.
- `adam` (FedAdam): m ← β₁·m + (1 - β₁)·Δ, v ← β₂·v + (1 - β₂)·Δ², w ← w + η·m/(√v + τ), from m = 0
  and v = τ², without the bias correction of the usual Adam, as in the paper.

Sources: Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification", 2019 (arXiv 1909.06335), section 4, for FedAvgM; Reddi et al., "Adaptive Federated
Optimization", ICLR 2021 (arXiv 2003.00295), algorithm 2, for FedAdam.
"""

from collections.abc import Callable, Mapping

import numpy as np

from common.protocol.layout import BUFFERS
from common.protocol.messages import Floats, Groups

Memory = Mapping[str, Floats]
Step = Callable[[Groups, Groups, Memory, float], tuple[dict[str, Floats], dict[str, Floats]]]


def take(
    sent: Groups, mean: Groups, memory: Memory, learning_rate: float
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """FedAvg: the mean itself; no memory."""
    return dict(mean), {}


def momentum(
    sent: Groups, mean: Groups, memory: Memory, learning_rate: float, beta: float = 0.9
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """FedAvgM, with the authors' β. The first step with a rate of 1 takes the mean itself."""
    new, kept = dict(mean), dict[str, Floats]()
    for name in steppable(mean):
        start = sent[name].astype(np.float64)  # in which mean - sent + sent is the mean
        update = mean[name] - start
        velocity = beta * memory.get(f"velocity/{name}", np.float32(0)) + update
        new[name] = (start + learning_rate * velocity).astype(np.float32)
        kept[f"velocity/{name}"] = velocity.astype(np.float32)
    return new, kept


def adam(
    sent: Groups,
    mean: Groups,
    memory: Memory,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.99),
    tau: float = 1e-3,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """FedAdam, with the authors' β₁, β₂ and τ, the least that an update is divided by."""
    new, kept = dict(mean), dict[str, Floats]()
    for name in steppable(mean):
        start = sent[name].astype(np.float64)
        update = mean[name] - start
        before = memory.get(f"first/{name}", np.float32(0))
        first = betas[0] * before + (1 - betas[0]) * update
        before = memory.get(f"second/{name}", np.float32(tau**2))
        second = betas[1] * before + (1 - betas[1]) * update**2
        stepped = start + learning_rate * first / (np.sqrt(second) + tau)
        new[name] = stepped.astype(np.float32)
        kept[f"first/{name}"] = first.astype(np.float32)
        kept[f"second/{name}"] = second.astype(np.float32)
    return new, kept


def steppable(groups: Groups) -> list[str]:
    """The groups of parameters: all but the running statistics."""
    return [name for name in groups if not name.endswith(BUFFERS)]


OPTIMISERS: dict[str, Step] = {
    "none": take,
    "momentum": momentum,
    "adam": adam,
}
"""name -> step from what was sent, the sites' mean, the optimiser's memory (flat arrays by name,
kept in the checkpoint, empty when a stage begins) and the learning rate, to the new groups and the
new memory."""
