"""The encoder `layered-convnet`: what `noise-filters` is, with weights that are trained.

Layers of convolutions (5×5, 3×3, 3×3), each with normalisation, ReLU and averaging over 2×2 pixels.
What *every* layer gives is averaged over at most 3×3 cells, and with a layer's means s ≥ 0 the
features are √(s / Σs): of unit length, side by side. Small networks keep more of an image in their
first layers than in their last one.
Sources: all layers' outputs: Lee et al., "Deeply-supervised nets", AISTATS 2015, and Hariharan et
al., "Hypercolumns", CVPR 2015; the square root: Perronnin et al., ECCV 2010; from the start
`patch-pca` on it is close to `noise-filters` (`common/models/noise_filters.py`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.models.encoders import Encoder
from common.utils.errors import UserError

WIDTHS, KERNELS, CELLS = (32, 64, 128), (5, 3, 3), 3
LEAST = 1e-6  # added to a share before its root, whose slope at 0 has no bound


class LayeredConvnet(Encoder):
    """Images (N, C, H, W) in [0, 1] -> features (N, d) of all layers, of about unit length."""

    def __init__(self, channels: int, side: int) -> None:
        least = 2 ** len(WIDTHS)
        if side < least:
            raise UserError(
                f"encoder layered-convnet needs images of side {least} or more, not {side}"
            )
        sides = [side // 2**depth for depth in range(1, len(WIDTHS) + 1)]
        cells = [min(CELLS, each) for each in sides]
        feature_dim = sum(w * c**2 for w, c in zip(WIDTHS, cells, strict=True))
        super().__init__(nn.Identity(), feature_dim)
        inner = (channels, *WIDTHS)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inner[n], inner[n + 1], KERNELS[n], padding=KERNELS[n] // 2, bias=False),
                nn.BatchNorm2d(inner[n + 1]),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            )
            for n in range(len(WIDTHS))
        )

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        maps, features = (images - self.MEAN) / self.STD, []
        for layer in self.layers:
            maps = layer(maps)
            features.append(root_of_shares(maps))
        joined: Tensor = torch.cat(features, dim=1) * len(features) ** -0.5
        return joined


def root_of_shares(maps: Tensor) -> Tensor:
    """√(s / Σs) (N, C·cells²) of the means s of non-negative `maps` (N, C, S, S) over cells."""
    means = F.adaptive_avg_pool2d(maps.float(), min(CELLS, maps.shape[-1])).flatten(1)
    return (means / means.sum(dim=1, keepdim=True).clamp_min(LEAST) + LEAST).sqrt()
