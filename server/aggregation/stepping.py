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
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.config.options import Stage
from common.optimisers import learning_rate
from common.protocol.messages import Floats, Groups
from common.protocol.packing import Packed, pack, unpack

Memory = Mapping[str, Floats]
STEPS = "steps"  # what the memory calls the number of steps in a pass over all sites' images
REACHED = "reached/"  # ... a group as the steps have led it, where the sites' is rounded
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


@dataclass(frozen=True)
class Taken:
    """After a step: the groups as the sites get to know them, the optimiser's memory, and what was
    added to the groups, where the sites are told of it in few bits."""

    groups: dict[str, Floats]
    memory: dict[str, Floats]
    changes: dict[str, Packed]


def step_as_told(
    stage: Stage, sent: Groups, gradient: Groups, memory: Memory, number: int, seed: int
) -> Taken:
    """The stage's step `number`, from 1. Where numbers travel in few bits, the sites are told the
    difference between where the step leads and what they have, rounded; what rounding leaves out
    is in the next difference, since where the steps lead is remembered as it is. The last step
    ends there. `seed`: of the rounding."""
    done = (number - 1) / stage.rounds
    if stage.gradients == "float32":
        return Taken(*step(stage, sent, gradient, memory, done), {})
    reached = {name: memory.get(REACHED + name, sent[name]) for name in gradient}
    new, kept = step(stage, {**sent, **reached}, gradient, memory, done)
    if number == stage.rounds:
        return Taken(new, kept, {})
    rng = np.random.default_rng(seed)
    changes = {
        name: pack(new[name] - sent[name], stage.gradients, rng) for name in sorted(gradient)
    }
    told = {name: sent[name] + unpack(packed) for name, packed in changes.items()}
    kept |= {REACHED + name: new[name] for name in gradient}
    return Taken({**new, **told}, kept, changes)


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
