"""A step of a synchronous stage: the optimiser at the server, on all sites' gradient g.

- `adam` (AdamW): w ← (1 - ηλ)·w, m ← β₁·m + (1 - β₁)·g, v ← β₂·v + (1 - β₂)·g²,
  w ← w - η·m/(1 - β₁ᵗ) / (√(v/(1 - β₂ᵗ)) + ε) in step t = 1, 2, ...
- `sgd`: g ← g + λw, v ← μ·v + g (v = g in the first step), w ← w - η·v.

The same as `common/optimisers.py` builds for a site, without what importing torch's takes. What is
remembered are flat arrays in the checkpoint, so that a resumed run goes on with the same bits.

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019 (arXiv
1711.05101), algorithm 2, with the constants of Kingma and Ba, ICLR 2015.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from common.config.options import Stage
from common.optimisers import learning_rate
from common.protocol.messages import Floats, Groups

Memory = Mapping[str, Floats]
STEPS = "steps"  # what the memory calls the number of steps in a pass over all sites' images
TAKEN = "taken"  # ... and how many of them have been taken
BETAS, EPSILON = (0.9, 0.999), 1e-8


def step(
    stage: Stage, sent: Groups, gradient: Groups, memory: Memory, done: float
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """The groups after a step along `gradient`, and the optimiser's memory; the share `done` of
    the stage lies behind. Groups without a gradient stay as they are."""
    taken = int(memory.get(TAKEN, [0])[0]) + 1
    rate = learning_rate(stage, done)
    new, kept = dict(sent), {TAKEN: np.array([taken], np.float32)}
    for name in gradient:
        w, g = torch.from_numpy(sent[name].copy()), torch.from_numpy(gradient[name])
        sgd = stage.optimiser == "sgd"
        names = ["velocity"] * (stage.momentum > 0) if sgd else ["first", "second"]
        moments = [_recalled(memory, f"{each}/{name}", g) for each in names]
        (_sgd if sgd else _adamw)(stage, rate, w, g, moments, taken)
        new[name] = w.numpy()
        kept |= {f"{n}/{name}": m.numpy() for n, m in zip(names, moments, strict=True)}
    return new, kept


def _recalled(memory: Memory, name: str, like: Tensor) -> Tensor:
    """What is remembered under `name`, a copy; zeros where nothing is."""
    return torch.from_numpy(memory[name].copy()) if name in memory else torch.zeros_like(like)


def _adamw(
    stage: Stage, rate: float, w: Tensor, g: Tensor, moments: list[Tensor], taken: int
) -> None:
    first, second = moments
    w.mul_(1 - rate * stage.weight_decay)
    first.lerp_(g, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
    size = (second / (1 - BETAS[1] ** taken)).sqrt_().add_(EPSILON)
    w.addcdiv_(first, size, value=-rate / (1 - BETAS[0] ** taken))


def _sgd(
    stage: Stage, rate: float, w: Tensor, g: Tensor, moments: list[Tensor], taken: int
) -> None:
    g = g.add(w, alpha=stage.weight_decay)
    for velocity in moments:
        g = velocity.mul_(stage.momentum if taken > 1 else 0).add_(g)
    w.sub_(g, alpha=rate)
