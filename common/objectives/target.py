"""What objectives with a target network (an exponential moving average) have in common.

The target ξ is a copy of the online encoder and projector; after each step ξ ← mξ + (1 - m)θ, with
m rising from its start to 1 by half a cosine over the stage (BYOL, appendix J: m ← 1 - (1 - m₀)
(cos(πk/K) + 1)/2). It stays at the site: it is neither sent nor averaged.
"""

import copy
import math
from typing import Self

import torch
from torch import Tensor, nn

from common.objectives.base import Objective


class Target(nn.Module):
    """Encoder and projector without gradients: (N, C, H, W) images to (N, p) projections."""

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = freeze(encoder)
        self.projector = freeze(projector)

    def forward(self, images: Tensor) -> Tensor:
        projections: Tensor = self.projector(self.encoder(images))
        return projections

    def become(self, encoder: nn.Module, projector: nn.Module) -> None:
        """Take over all tensors of other networks of the same layout."""
        self.encoder.load_state_dict(encoder.state_dict())
        self.projector.load_state_dict(projector.state_dict())


class ReceivedModel(Target):
    """The model as a site received it: always in evaluation mode, since its running statistics
    are received, too."""

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__(encoder, projector)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class TargetObjective(Objective):
    """An objective whose subclass calls `start_target` at the end of its constructor."""

    momentum: float
    target: Target

    def start_target(self, momentum: float) -> None:
        """Make the target a copy of the online networks. `momentum` in [0, 1]: m₀."""
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}")
        self.momentum = momentum
        self.target = Target(copy.deepcopy(self.encoder), copy.deepcopy(self.projector))

    @torch.no_grad()
    def _targets(self, a: Tensor, b: Tensor, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, Tensor]:
        t_a, t_b = self.target(torch.cat([a, b])).chunk(2)
        return t_a, t_b

    def after_step(self, progress: float) -> None:
        m = momentum_at(self.momentum, progress)
        move_towards(self.target.encoder, self.encoder, m)
        move_towards(self.target.projector, self.projector, m)

    def local(self) -> dict[str, nn.Module]:
        return {"target": self.target}

    def restart_local(self) -> None:
        """The target becomes the online networks: at a site's first round in a run."""
        self.target.become(self.encoder, self.projector)


def momentum_at(start: float, progress: float) -> float:
    """m at `progress` in [0, 1]: from `start` to 1 by half a cosine."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


def freeze(module: nn.Module) -> nn.Module:
    """The module with gradients off: a target network."""
    return module.requires_grad_(False)


@torch.no_grad()
def move_towards(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """ξ ← m·ξ + (1 - m)·θ for parameters (He et al., CVPR 2020, eq. 2); buffers are the target's
    own, since it forwards in training mode."""
    pairs = list(zip(target.parameters(), online.parameters(), strict=True))
    torch._foreach_lerp_([t for t, _ in pairs], [o.detach() for _, o in pairs], 1 - momentum)
