"""Masked images: what is hidden of a view is foretold from what is left.

Of each view x a share of a grid of patches is hidden, M the hidden pixels, 1 there and 0 elsewhere.
The encoder sees x with grey in their place, a head g foretells `detail` × `detail` pixels, and
    l = Σ_p m_p |g(f((1 - M)·x + M/2))_p - x̄_p| / Σ_p m_p,   L = E[l] over images and both views,
x̄ and m the view and M averaged to that side (so what is seen costs nothing). Nothing pushes images
apart, so no negatives are missing at a site of one class, and l knows one image alone: L is a mean
over the images, and synchronous steps need nothing beside the gradient
(`common/objectives/pooled.py`).
Which patches are hidden is a hash of the view's own pixels: so a view has the same ones whoever
holds the image, and the other view has others.
Shared: encoder, projector (the head g). Local: nothing.
Sources: Xie et al., "SimMIM", CVPR 2022 (arXiv 2111.09886), section 3: L1 on hidden pixels alone,
a light head, a share of .6, a coarse target is enough; He et al., CVPR 2022 (MAE). Theirs are
transformers that see patches; here a convolutional encoder sees grey.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.augmentations.seeded import GAMMA, mixed
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import Batch, Representations
from common.objectives.pooled import Pooled
from common.utils.errors import UserError

CHANNELS = 3  # that are foretold; of a grey image all are the same
GREY = 0.5


@dataclass(frozen=True)
class Parameters:
    """`share` of the patches that are hidden; `patches` and `detail`: how many patches, and how
    many foretold pixels, along a side; `hidden`: the head's inner width."""

    share: float = 0.6
    patches: int = 8
    detail: int = 16
    hidden: int = 256


class MaskedImage(Pooled):
    """Hidden patches of each view are foretold from the rest of it."""

    name = "masked-image"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        if not 0 < parameters.share < 1:
            raise UserError(f"masked-image: the share {parameters.share:g} is not in (0, 1)")
        for name in ("patches", "detail"):
            if getattr(parameters, name) < 1:
                raise UserError(f"masked-image: {name} = {getattr(parameters, name)} is too few")
        self.parameters_ = parameters
        self.encoder = encoder
        outputs = CHANNELS * parameters.detail**2
        self.projector = mlp(encoder.feature_dim, parameters.hidden, outputs)

    def represent(self, batch: Batch) -> Representations:
        a, b = (covered(view, self.masks(view)) for view in (batch.a, batch.b))
        # What is foretold is compared with the views as they were.
        return super().represent(batch._replace(a=a, b=b))._replace(batch=batch)

    def masks(self, views: Tensor) -> Tensor:
        """Which patches of `views` (N, C, S, S) are hidden: (N, 1, P, P), 1 there and 0 elsewhere;
        the same number in each view, at least one, and one is always left."""
        side = min(self.parameters_.patches, views.shape[-1])
        count = min(max(1, round(self.parameters_.share * side**2)), max(1, side**2 - 1))
        order = chance(views, side**2).argsort(dim=1, stable=True)
        masks = torch.zeros(order.shape, device=views.device)
        masks.scatter_(1, order[:, :count], 1.0)
        return masks.reshape(-1, 1, side, side)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def statistics(self, seen: Representations) -> dict[str, Tensor]:
        return {}

    def by_statistics(
        self, seen: Representations, statistics: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        pairs = ((seen.batch.a, seen.z_a), (seen.batch.b, seen.z_b))
        lost = [self._missed(view, foretold).mean() for view, foretold in pairs]
        return {"hidden": torch.stack(lost).mean()}

    def _missed(self, views: Tensor, foretold: Tensor) -> Tensor:
        """l of each view (N,), in units of pixels in [0, 1]."""
        side = self.parameters_.detail
        target = F.adaptive_avg_pool2d(views.float(), side).expand(-1, CHANNELS, -1, -1)
        masks = F.interpolate(self.masks(views), views.shape[-2:], mode="nearest")
        weight = F.adaptive_avg_pool2d(masks, side)
        apart = (foretold.float().unflatten(1, target.shape[1:]) - target).abs().mean(dim=1)
        missed: Tensor = (weight[:, 0] * apart).sum(dim=(1, 2)) / weight.sum(dim=(1, 2, 3))
        return missed


def covered(views: Tensor, masks: Tensor) -> Tensor:
    """`views` (N, C, S, S) with grey where `masks` (N, 1, P, P) is 1."""
    return views.lerp(torch.full_like(views, GREY), F.interpolate(masks, views.shape[-2:]))


def chance(views: Tensor, count: int) -> Tensor:
    """`count` numbers for each of `views` (N, ...): int64 (N, count), a hash of its pixels in 8
    bits. Whole numbers, so that no order of adding up changes them."""
    pixels = (views.detach().float() * 255).round().long().flatten(1)
    seeds = (pixels * mixed(steps(pixels.shape[1], pixels.device))).sum(dim=1)
    return mixed(mixed(seeds)[:, None] + steps(count, pixels.device))


def steps(count: int, device: torch.device) -> Tensor:
    """SplitMix64's first `count` states from 0, int64."""
    return torch.arange(1, count + 1, device=device) * GAMMA
