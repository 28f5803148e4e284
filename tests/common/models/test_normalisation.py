"""BatchNorm takes away the class of a batch that holds one class; GroupNorm does not."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from common.config import recipes
from common.data import load
from common.models.encoders import ENCODERS, Encoder, build_encoder
from common.models.normalisation import without_batch_norm
from common.stages import build_stage

CHANNELS = 16


pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one_class_batches(width: int = 16) -> tuple[Tensor, Tensor]:
    """Two batches of maps (32, C, 4, 4) that differ in structure: which channels are bright."""
    bright = torch.arange(CHANNELS) % 2 == 0
    first, second = noise(2, width, CHANNELS, 4, 4)
    return first + 3.0 * bright[:, None, None], second + 3.0 * ~bright[:, None, None]


def group_norm() -> nn.Module:
    layers = nn.Sequential(nn.BatchNorm2d(CHANNELS))
    without_batch_norm(layers)
    return layers


def gap(norm: nn.Module) -> float:
    """Largest difference between the channel means of the two classes."""
    first, second = (norm(batch).mean(dim=(0, 2, 3)) for batch in one_class_batches())
    return float((first - second).abs().max().detach())


def test_in_training_mode_batch_norm_gives_both_classes_the_same_mean() -> None:
    assert gap(nn.BatchNorm2d(CHANNELS).train()) < 1e-6
    assert gap(nn.Identity()) > 2.9


def test_group_norm_keeps_the_two_classes_apart() -> None:
    assert gap(group_norm().train()) > 1


def test_batch_norm_keeps_them_apart_in_mixed_batches_and_in_evaluation_mode() -> None:
    first, second = one_class_batches()
    norm = nn.BatchNorm2d(CHANNELS, momentum=1.0).train()
    mixed = norm(torch.cat([first, second]))
    assert (mixed[:16].mean(dim=(0, 2, 3)) - mixed[16:].mean(dim=(0, 2, 3))).abs().min() > 1
    assert gap(norm.eval()) > 1


def test_what_all_images_of_a_batch_share_is_lost_to_batch_norm_alone() -> None:
    """A constant for each channel added to a whole batch, as its class is, changes no output."""
    batch, shared = noise(16, CHANNELS, 4, 4), 2 * noise(CHANNELS, 1, 1, seed=1)
    batch_norm, by_image = nn.BatchNorm2d(CHANNELS).train(), group_norm()
    torch.testing.assert_close(batch_norm(batch + shared), batch_norm(batch), atol=1e-5, rtol=0)
    assert (by_image(batch + shared) - by_image(batch)).abs().max() > 1


def test_the_heads_layer_norm_keeps_the_classes_apart_too() -> None:
    first, second = (batch.mean(dim=(2, 3)) for batch in one_class_batches())
    batch_norm = nn.BatchNorm1d(CHANNELS).train()
    assert (batch_norm(first).mean(0) - batch_norm(second).mean(0)).abs().max() < 1e-5
    layers = nn.Sequential(nn.BatchNorm1d(CHANNELS))
    without_batch_norm(layers)
    assert (layers(first).mean(0) - layers(second).mean(0)).abs().min() > 1


def digits(label: int) -> Tensor:
    data = load("digits", images=0, seed=0)
    return torch.from_numpy(data.images[data.labels == label][:160]).float() / 255


@torch.no_grad()
def features(encoder: Encoder, images: Tensor) -> Tensor:
    """In training mode, batch by batch, as a site's networks see its images."""
    encoder.train()
    return torch.cat([encoder(batch) for batch in images.split(40)])


def nearest_mean_accuracy(first: Tensor, second: Tensor) -> float:
    """Of the nearer of two class means of half the features, on the other half."""
    means = torch.stack([first[:80].mean(0), second[:80].mean(0)])
    nearer = torch.cdist(torch.cat([first[80:], second[80:]]), means).argmin(dim=1)
    return float((nearer == torch.arange(2).repeat_interleave(80)).float().mean())


@pytest.mark.parametrize(("one", "other"), [(0, 1), (4, 9)])
def test_digits_seen_one_class_at_a_time_look_alike_with_batch_norm(one: int, other: int) -> None:
    """An untrained encoder tells two digits apart almost surely. With BatchNorm in training mode it
    does so in mixed batches, and hardly better than a coin where each batch is of one digit."""
    first, second = digits(one), digits(other)
    encoder = build_encoder("small-convnet", 1, 8, seed=0)
    by_image = copy.deepcopy(encoder)
    without_batch_norm(by_image)
    alternating = features(encoder, torch.stack([first, second], dim=1).flatten(0, 1))
    mixed = nearest_mean_accuracy(alternating[::2], alternating[1::2])
    alone = nearest_mean_accuracy(features(encoder, first), features(encoder, second))
    grouped = nearest_mean_accuracy(features(by_image, first), features(by_image, second))
    assert alone < 0.65 < 0.95 < min(mixed, grouped)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_no_batch_norm_is_left_in_any_encoder_and_shapes_stay(name: str, channels: int) -> None:
    encoder = build_encoder(name, channels, 16, seed=0)
    others = {
        key: tensor.clone()
        for part, module in encoder.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        for key, tensor in module.state_dict(prefix=f"{part}.").items()
    }
    batch_norms = sum(isinstance(m, _BatchNorm) for m in encoder.modules())
    sizes = {name: p.shape for name, p in encoder.named_parameters()}
    without_batch_norm(encoder)
    assert not any(isinstance(m, _BatchNorm) for m in encoder.modules())
    assert sum(isinstance(m, nn.GroupNorm) for m in encoder.modules()) == batch_norms
    assert name == "noise-filters" or not list(encoder.buffers())  # which are its filters
    assert {name: p.shape for name, p in encoder.named_parameters()} == sizes
    state = encoder.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in others.items())
    images = torch.rand(2, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert encoder(images).shape == (2, encoder.feature_dim)


def test_an_image_is_normalised_by_itself() -> None:
    encoder = build_encoder("convnet", 1, 16, seed=0).train()
    images = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    without_batch_norm(encoder)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images)[:2], encoder(images[:2]), atol=1e-5, rtol=1e-4)


def test_a_norm_without_affine_parameters_stays_without_and_groups_divide_the_channels() -> None:
    layers = nn.Sequential(
        nn.BatchNorm1d(5, affine=False), nn.BatchNorm2d(12), nn.BatchNorm2d(7, affine=False)
    )
    without_batch_norm(layers)
    assert [type(m) for m in layers] == [nn.LayerNorm, nn.GroupNorm, nn.GroupNorm]
    assert [m.num_groups for m in list(layers)[1:]] == [4, 1]
    assert [len(list(m.parameters())) for m in layers] == [0, 2, 0]


@pytest.mark.parametrize("recipe", ["fedbyol", "fedmcc"])
def test_the_option_reaches_encoder_heads_and_targets_of_every_stage(recipe: str) -> None:
    for given, left in (("batch", True), ("group", False)):
        plan = recipes.load(recipe).plan({"normalisation": given})
        for index in range(len(plan.stages)):
            modules = build_stage(plan, index, 1, 16, 4).modules()
            assert any(isinstance(m, _BatchNorm) for m in modules) == left


@pytest.mark.parametrize("recipe", ["fedbyol", "fedmoco", "fedx", "ccfc"])
def test_a_frozen_network_stays_frozen(recipe: str) -> None:
    plan = recipes.load(recipe).plan({"normalisation": "group", "encoder": "small-convnet"})
    part = build_stage(plan, 0, channels=1, side=8, clusters=4)
    frozen = [*part.local().values(), *part.received().values()]
    assert frozen and not any(p.requires_grad for m in frozen for p in m.parameters())
    norms = [m for m in part.encoder.modules() if isinstance(m, nn.GroupNorm)]
    assert norms and all(p.requires_grad for norm in norms for p in norm.parameters())
