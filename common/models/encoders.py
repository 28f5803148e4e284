"""Image encoders: (N, C, H, W) float images in [0, 1] -> (N, d) features.

Any side and 1 or 3 channels. The residual networks are torchvision's, with the small-image stem
(3×3 convolution of stride 1, no max pooling: He et al., CVPR 2016, section 4.2; SimCLR, appendix
B.9) where the side is at most 64.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from common.config.encoder import library_of
from common.utils.errors import UserError, unknown

SMALL_SIDE = 64


class Encoder(nn.Module):
    """A network with a known output width, `feature_dim`.

    Pixels are standardised with the fixed constants below, the same for every site and data set:
    a site's own statistics would make the sites' inputs disagree.
    """

    MEAN, STD = 0.5, 0.25

    def __init__(self, network: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.network = network
        self.feature_dim = feature_dim

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network((images - self.MEAN) / self.STD)
        return features

    def as_one(self) -> nn.Module:
        """The same function as a module that has all weights, and takes all images at once: for
        other tools, whose graphs have no loop over parts of a batch."""
        return self


def convnet(channels: int, side: int, widths: tuple[int, ...] = (64, 128, 256)) -> Encoder:
    """The small encoder of the federated clustering literature: 4×4 convolutions of stride 2
    (64-128-256), BatchNorm, LeakyReLU .2 (CCFC, arXiv 2401.06634); features are the last map
    pooled to at most 3×3 and flattened, so that they do not grow with the side."""
    if side < 2 ** len(widths):
        raise UserError(
            f"encoder convnet needs images of side {2 ** len(widths)} or more, not {side}"
        )
    layers: list[nn.Module] = []
    for inner, outer in zip((channels, *widths), widths, strict=False):
        layers += [
            nn.Conv2d(inner, outer, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outer),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    cells = min(3, side // 2 ** len(widths))
    layers += [nn.AdaptiveAvgPool2d(cells), nn.Flatten()]
    return Encoder(nn.Sequential(*layers), widths[-1] * cells**2)


def _resnet(name: str) -> Callable[[int, int], Encoder]:
    def encoder(channels: int, side: int) -> Encoder:
        from torchvision import models  # noqa: PLC0415 (1.6 s, for who needs it)

        network = models.get_model(name, weights=None)
        if side <= SMALL_SIDE:
            network.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
            network.maxpool = nn.Identity()
        elif channels != 3:
            network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        assert isinstance(network.fc, nn.Linear)
        feature_dim = network.fc.in_features
        network.fc = nn.Identity()
        return Encoder(network, feature_dim)

    return encoder


def small_convnet(channels: int, side: int) -> Encoder:
    """`convnet` at half its widths (32-64-128)."""
    return convnet(channels, side, (32, 64, 128))


def pixels(channels: int, side: int) -> Encoder:
    """No network: the standardised pixels themselves, as k-means on pixels sees them."""
    return Encoder(nn.Flatten(), channels * side**2)


def _noise_filters(channels: int, side: int) -> Encoder:
    from common.models.noise_filters import noise_filters  # noqa: PLC0415 (it builds on this file)

    return noise_filters(channels, side)


def _layered(channels: int, side: int) -> Encoder:
    from common.models.layered_convnet import LayeredConvnet  # noqa: PLC0415 (the same)

    return LayeredConvnet(channels, side)


FIXED = ("pixels", "noise-filters")
"""Encoders without a weight that could be trained."""

ENCODERS: dict[str, Callable[[int, int], Encoder]] = {
    "convnet": convnet,
    "small-convnet": small_convnet,
    "layered-convnet": _layered,
    "pixels": pixels,
    "noise-filters": _noise_filters,
    "resnet18": _resnet("resnet18"),
    "resnet34": _resnet("resnet34"),
    "resnet50": _resnet("resnet50"),
}


UNNAMED = (
    "the recipe leaves the encoder to you: --encoder timm:NAME --weights FILE.safetensors "
    "(`covey encoders` lists names and files)"
)


def build_encoder(name: str, channels: int, side: int, seed: int) -> Encoder:
    """The encoder called `name` for square images, initialised from `seed` alone (the global
    generator is left as it was). `UserError` for an unknown name or an impossible size."""
    if not name:
        raise UserError(UNNAMED)
    if library_of(name)[0]:
        raise UserError(f"encoder {name} needs --weights FILE.safetensors: nothing is fetched")
    if name not in ENCODERS:
        raise unknown("encoder", name, ENCODERS)
    if channels not in (1, 3):
        raise UserError(f"images have {channels} channels: encoders take 1 or 3")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ENCODERS[name](channels, side)
