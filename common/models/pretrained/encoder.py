"""A pretrained network as an encoder: frozen, or trained from one of its layers on.

What is frozen is the same for all, who have it from a file. So it is no part of the module's state:
it is not sent, not averaged, not written into a model; only the layers that are trained are.
Frozen layers stay in evaluation mode, their BatchNorms, too.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.config.encoder import Network
from common.models.encoders import Encoder
from common.models.pretrained.library import Architecture
from common.utils.errors import UserError

CPU_BYTES, GPU_BYTES = 2**27, 2**31  # of the images and maps of one forward, about
MAPS = 24  # bytes of maps for each byte of an image that a convolutional network has at its peak


class Pretrained(Encoder):
    """Images (N, 1 or 3, H, W) in [0, 1] -> features (N, d) of a network that others have trained.

    Grey images go in as three equal channels. What is not trained goes through in parts of a few
    images, so that memory does not grow with their number. With `how.root` features are square
    roots, as those of `noise-filters`: a few large ones do not decide how near two images are
    (Perronnin, Sánchez and Mensink, ECCV 2010). `UserError` for a layer that is none.
    """

    keeps_its_norms = True  # another normalisation would make its weights useless

    def __init__(self, built: Architecture, how: Network, train_from: str = "") -> None:
        super().__init__(nn.Identity(), built.width)
        self.how = how
        self.loaded = False
        whole = built.network.requires_grad_(False).eval()
        self._whole = (whole,)  # a tuple: no submodule, hence no part of the state
        self.trained = nn.ModuleDict(_layers_from(whole, train_from) if train_from else {})
        self.trained.requires_grad_(True)
        mean, std = (torch.tensor(three).view(1, 3, 1, 1) for three in (how.mean, how.std))
        self._standard = (mean, std)

    @property
    def whole(self) -> nn.Module:
        """The network, frozen layers and all."""
        return self._whole[0]

    def forward(self, images: Tensor) -> Tensor:
        if not self.loaded and images.device.type != "meta":
            raise RuntimeError("a pretrained encoder was asked before it had its weights")
        if torch.is_grad_enabled() and len(self.trained):
            return self._features(images)
        few = max(1, _budget(images.device) // (MAPS * 12 * self.how.side**2))
        return torch.cat([self._features(part) for part in images.split(few)])

    def _features(self, images: Tensor) -> Tensor:
        return self.finished(self.whole(self.prepared(images)))

    def finished(self, features: Tensor) -> Tensor:
        """Features (N, d) from what the network gives."""
        flat = features.flatten(1)
        return flat.clamp_min(0).sqrt() if self.how.root else flat

    def prepared(self, images: Tensor) -> Tensor:
        """Images as the network takes them: (N, 3, side, side), standardised."""
        side, how = images.shape[-1], self.how
        kept = max(1, round(side * how.crop))
        start = (side - kept) // 2
        seen = images[..., start : start + kept, start : start + kept]
        if kept != how.side:
            smooth = {} if how.interpolation == "nearest" else {"antialias": True}
            size = (how.side, how.side)
            seen = F.interpolate(seen, size, mode=how.interpolation, **smooth).clamp(0, 1)
        mean, std = (values.to(seen.device, seen.dtype) for values in self._standard)
        seen = (seen.expand(-1, 3, -1, -1) - mean) / std
        return seen.contiguous(memory_format=torch.channels_last)

    def as_one(self) -> nn.Module:
        """See `Encoder`."""
        return _Whole(self)

    def train(self, mode: bool = True) -> Self:
        """Only what is trained is ever in training mode."""
        super().train(mode)
        self.whole.eval()
        self.trained.train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.whole._apply(fn, recurse)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


class _Whole(nn.Module):
    def __init__(self, encoder: Pretrained) -> None:
        super().__init__()
        self._prepared, self._finished = encoder.prepared, encoder.finished
        self.network = encoder.whole

    def forward(self, images: Tensor) -> Tensor:
        return self._finished(self.network(self._prepared(images)))


def _budget(device: torch.device) -> int:
    return GPU_BYTES if device.type == "cuda" else CPU_BYTES


def _layers_from(network: nn.Module, layer: str) -> dict[str, nn.Module]:
    """The module `layer` of the network and all that come after it, in the order in which they are
    registered: whole where they are, by their names with "/" for the point."""
    found: dict[str, nn.Module] = {}
    above: nn.Module | None = network
    path = layer.split(".")
    for depth, name in enumerate(path):
        children = dict(above.named_children()) if above is not None else {}
        if name not in children:
            known = [n for n, child in network.named_children() if list(child.parameters())]
            raise UserError(f"train-from: no layer {layer!r}; layers: {', '.join(known)}")
        names = list(children)
        after = names[names.index(name) + (depth < len(path) - 1) :]
        later = {"/".join([*path[:depth], n]): children[n] for n in after}
        found = found | later if depth == 0 else later | found
        above = children[name]
    return {name: module for name, module in found.items() if module.state_dict()}
