"""How a site takes the global model over before it trains: replaced by it, or merged with its own.

A rule gets the live modules, which hold the received global model, and what the site's own were
after its last training. It changes the modules in place and returns what it wants to remember. To
add one, write it here, enter it in `MERGES`, and test its limiting cases.

With W_g what was received, W_k the site's own, d how far they lie apart over the encoder:
- FedU: encoder ← W_g; predictor ← W_g if d < μ, else W_k.
- FedEMA: W ← μ·W_k + (1 - μ)·W_g for encoder and predictor, μ = min(λ·d, 1); λ = τ/d at the first
  round in which there is a d, so that μ starts at τ; or λ a constant.
The projector goes with the encoder: it is the last layer of the authors' online encoder. Whatever
else is shared, and all running statistics, come from the global model. So does everything at a
site's first round, and at one that took no part in the round before, whose own model is stale. A
target network stays at the site throughout (the authors' code resets it after a missed round).

Sources: Zhuang et al., "Collaborative Unsupervised Visual Representation Learning from
Decentralized Data" (FedU), ICCV 2021 (arXiv 2108.06492); Zhuang et al., "Divergence-aware Federated
Self-Supervised Learning" (FedEMA), ICLR 2022 (arXiv 2204.04385); the authors' code for both. The
code measures d by what the site's last training changed, as a mean over the convolutions; here it
is the paper's distance between the received and the site's own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MERGED = ("encoder", "projector", "predictor")
SCALE = "scale"  # λ, in the memory of `fedema`


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

    def pairs(self, *names: str) -> list[tuple[Tensor, Tensor]]:
        """(global, own) of each parameter of the modules called `names`; the global one is live.
        Modules that are not shared, and parameters of which the site has none of that shape (of
        another stage's heads), are left out."""
        found = [
            (parameter.detach(), self.own.get(f"{name}/{key}"))
            for name in names
            if name in self.modules
            for key, parameter in self.modules[name].named_parameters()
        ]
        return [(p, own) for p, own in found if own is not None and own.shape == p.shape]

    @property
    def comparable(self) -> bool:
        """Whether the site has an encoder of its own that is no more than a round old."""
        return not self.missed and bool(self.pairs("encoder"))


Memory = dict[str, Tensor]


def replace(merging: Merging) -> Memory:
    """The global model, as received: FedAvg."""
    return {}


def fedu(merging: Merging) -> Memory:
    """The global encoder; the global predictor where d < μ, `strength`, else the site's own.

    d is the mean distance of a layer's weights, since the authors' μ of .4 is one of that scale.
    """
    if merging.comparable:
        keeps = layer_distance(merging.pairs("encoder")) >= merging.strength
        for parameter, own in merging.pairs("predictor"):
            parameter.copy_(torch.where(keeps, own, parameter))
    return {}


def fedema(merging: Merging) -> Memory:
    """The moving average with λ = τ/d of the first round with a d above 0; τ is `strength`."""
    if not merging.comparable:
        return dict(merging.memory)
    d = distance(merging.pairs("encoder"))
    scale = merging.memory.get(SCALE, torch.zeros_like(d))  # 0: not settled yet
    scale = torch.where((scale == 0) & (d > 0), merging.strength / d, scale)
    average(merging, (scale * d).clamp(max=1))
    return {SCALE: scale}


def fedema_constant(merging: Merging) -> Memory:
    """The moving average with λ = `strength`."""
    if merging.comparable:
        d = distance(merging.pairs("encoder"))
        average(merging, (merging.strength * d).clamp(max=1))
    return {}


def average(merging: Merging, mu: Tensor) -> None:
    """W ← μ·W_k + (1 - μ)·W_g for all that is merged; `mu` () in [0, 1], on the device."""
    for parameter, own in merging.pairs(*MERGED):
        parameter.lerp_(own, mu)


def distance(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """‖W_g - W_k‖ over all `pairs` of equal shape as one vector: a number on their device."""
    norms = torch._foreach_norm(torch._foreach_sub([p for p, _ in pairs], [o for _, o in pairs]))
    whole: Tensor = torch.stack(norms).norm()
    return whole


def layer_distance(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean of ‖W_g - W_k‖ over those `pairs` that are weights of a layer (not its biases, nor
    a normalisation's scale and shift): a number on their device."""
    weights = [(p, own) for p, own in pairs if p.dim() > 1]
    return torch.stack([distance([pair]) for pair in weights]).mean()


MERGES: dict[str, Callable[[Merging], Memory]] = {
    "replace": replace,
    "fedu": fedu,
    "fedema": fedema,
    "fedema-constant": fedema_constant,
}
