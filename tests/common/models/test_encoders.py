"""Encoders take any side and 1 or 3 channels, and say how wide they are."""

import pytest
import torch
from torch import nn

from common.models.encoders import ENCODERS, FIXED, build_encoder
from common.utils.errors import UserError


@pytest.mark.parametrize("name", ["convnet", "layered-convnet", "resnet18"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 33, 96])
def test_features_are_as_wide_as_said(name: str, channels: int, side: int) -> None:
    encoder = build_encoder(name, channels, side, seed=0).eval()
    with torch.no_grad():
        assert encoder(torch.rand(2, channels, side, side)).shape == (2, encoder.feature_dim)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_small_images_get_the_small_stem(name: str) -> None:
    small = build_encoder(name, 3, 32, seed=0).network
    assert small.conv1.stride == (1, 1) and isinstance(small.maxpool, nn.Identity)
    large = build_encoder(name, 3, 96, seed=0).network
    assert large.conv1.stride == (2, 2) and isinstance(large.maxpool, nn.MaxPool2d)


def test_convnet_is_the_papers() -> None:
    layers = list(build_encoder("convnet", 1, 28, seed=0).network)
    convolutions = [m for m in layers if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 128, 256]
    assert all(m.kernel_size == (4, 4) and m.stride == (2, 2) for m in convolutions)
    assert [m.negative_slope for m in layers if isinstance(m, nn.LeakyReLU)] == [0.2] * 3


@pytest.mark.parametrize("name", ENCODERS)
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    torch.manual_seed(7)
    first = build_encoder(name, 1, 16, seed=3).state_dict()
    torch.manual_seed(8)
    second = build_encoder(name, 1, 16, seed=3).state_dict()
    other = build_encoder(name, 1, 16, seed=4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert name in FIXED or any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "channels", "side", "message"),
    [
        ("resnet81", 1, 28, "did you mean 'resnet18'"),
        ("convnet", 4, 28, "4 channels"),
        ("convnet", 1, 4, "side 8 or more"),
        ("layered-convnet", 1, 7, "side 8 or more"),
    ],
)
def test_mistakes_are_one_line(name: str, channels: int, side: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_encoder(name, channels, side, seed=0)


def test_layered_features_are_roots_of_each_layers_shares_side_by_side() -> None:
    encoder = build_encoder("layered-convnet", 1, 16, seed=0).eval()
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    maps, wanted = (images - 0.5) / 0.25, []
    for convolution, norm, _, _ in encoder.layers:
        maps = norm(convolution(maps)).clamp_min(0)
        maps = maps.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5))
        cells = torch.nn.functional.adaptive_avg_pool2d(maps, min(3, maps.shape[-1])).flatten(1)
        wanted.append((cells / cells.sum(dim=1, keepdim=True)).sqrt())
    h = encoder(images)
    torch.testing.assert_close(h, torch.cat(wanted, dim=1) / 3**0.5, atol=2e-3, rtol=0)
    torch.testing.assert_close(h.norm(dim=1), torch.ones(2), atol=2e-3, rtol=0)


def test_layered_features_have_a_bounded_slope_where_a_map_is_blank() -> None:
    encoder = build_encoder("layered-convnet", 1, 16, seed=0)
    images = torch.full((4, 1, 16, 16), 0.5, requires_grad=True)
    encoder(images).sum().backward()
    assert torch.isfinite(images.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())
