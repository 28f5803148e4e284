"""BatchNorm by the moments of everybody's images, for steps on a batch that sites have together.

A site that normalised by its own part of a batch would take its class for the whole
(`common/models/normalisation.py`). Here a layer is told E[x] and E[x²] over all sites' images, both
views and all places of its maps, and then does to an image what BatchNorm does to it in the whole
batch. Its running statistics are the server's to move on.

Source: Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 1; the moments as sums over
sites: as in synchronised BatchNorm over GPUs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class PooledBatchNorm(_BatchNorm):
    """A BatchNorm that normalises by `moments` (2, C): E[x - c], E[(x - c)²] of each map, c the
    running mean, which all sites have; subtracting it keeps digits. None: by the batch's own."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self.load_state_dict(norm.state_dict())
        self.moments: Tensor | None = None
        self.own = torch.zeros(2, norm.num_features)
        self.places = 1

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)
        assert self.running_mean is not None
        maps = (1, -1, *[1] * (x.ndim - 2))
        shifted = x.float() - self.running_mean.view(maps)
        others = [axis for axis in range(x.ndim) if axis != 1]
        self.own = torch.stack([shifted.mean(others), shifted.square().mean(others)])
        self.places = x[0, 0].numel()
        mean, variance = central(self.own if self.moments is None else self.moments)
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        normal = (shifted - mean.view(maps)) * scale.view(maps)
        return normal if self.bias is None else normal + self.bias.view(maps)

    @torch.no_grad()
    def track(self, moments: Tensor, count: int) -> None:
        """Move the running statistics on by the `moments` of `count` numbers of each map."""
        assert self.running_mean is not None and self.running_var is not None
        mean, variance = central(moments)
        share = self.momentum or 0.0
        self.running_var.lerp_(variance * count / max(1, count - 1), share)
        self.running_mean.add_(mean, alpha=share)


def central(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) from (2, C): E[x], E[x²]."""
    mean, square = moments
    return mean, (square - mean.square()).clamp_min(0)


def pool_batch_norms(module: nn.Module) -> list[PooledBatchNorm]:
    """Put a `PooledBatchNorm` in the place of every BatchNorm inside `module`; all of them, in the
    order in which images meet them."""
    found: list[PooledBatchNorm] = []
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            found.append(PooledBatchNorm(child))
            setattr(module, name, found[-1])
        else:
            found += pool_batch_norms(child)
    return found
