"""Views from a seed for each image: of that image alone, whatever is beside it."""

import pytest
import torch
from torch import Tensor

from common.augmentations import build_augmentation
from common.augmentations.operations import Draws
from common.augmentations.seeded import SeededChance, mixed

CHANCE = torch.Generator().manual_seed(0)
ALL = 2**64 - 1


def seeds(count: int) -> Tensor:
    return torch.randint(-(2**62), 2**62, (count,), generator=CHANCE)


def split_mix(seed: int, number: int) -> int:
    """Number `number` of SplitMix64, in whole numbers without end."""
    z = (seed + (number + 1) * 0x9E3779B97F4A7C15) & ALL
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & ALL
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & ALL
    return z ^ (z >> 31)


def test_the_draws_are_split_mixs() -> None:
    own = seeds(20)
    drawn = torch.stack(SeededChance(own).draws)
    for image, seed in enumerate(own.tolist()):
        for number in range(len(Draws._fields)):
            assert drawn[number, image] == (split_mix(seed & ALL, number) >> 40) / 2**24


def test_draws_are_uniform_noise_is_normal_and_nothing_hangs_together() -> None:
    chance = SeededChance(seeds(4000))
    draws, noise = torch.stack(chance.draws), chance.noise(torch.Size((4000, 1, 9, 9))).flatten(1)
    assert draws.min() >= 0 and draws.max() < 1
    assert torch.allclose(draws.mean(1), torch.tensor(0.5), atol=0.02)
    assert torch.allclose(draws.var(1), torch.tensor(1 / 12), atol=0.005)
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    assert abs((noise**4).mean() - 3) < 0.1
    both = torch.cat([draws.T, noise], dim=1)
    apart = both.T.corrcoef() - torch.eye(both.shape[1])
    assert apart.abs().max() < 0.1


def test_neighbouring_seeds_give_numbers_that_have_nothing_in_common() -> None:
    bits = mixed(torch.arange(4096))[:, None] >> torch.arange(64) & 1
    assert ((bits[1:] != bits[:-1]).float().mean(0) - 0.5).abs().max() < 0.05


@pytest.mark.parametrize(
    ("kind", "channels", "side"), [("digits", 1, 28), ("garments", 1, 28), ("natural", 3, 40)]
)
def test_a_view_has_the_same_bits_whatever_other_images_are_there(
    kind: str, channels: int, side: int
) -> None:
    views, count = build_augmentation("auto", kind, side), 150
    images = torch.randint(0, 256, (count, channels, side, side), generator=CHANCE).byte()
    own, order = seeds(count), torch.randperm(count, generator=CHANCE)
    wanted = views.seeded(images, own)
    assert torch.equal(views.seeded(images[order], own[order]), wanted[order])
    assert torch.equal(views.seeded(images[7:10], own[7:10]), wanted[7:10])
    assert not torch.equal(views.seeded(images, own + 1), wanted)
    assert wanted.min() >= 0 and wanted.max() <= 1


def test_views_by_seed_are_spread_as_those_by_generator() -> None:
    views = build_augmentation("auto", "digits", 16)
    images = torch.full((2000, 1, 16, 16), 128).byte()
    one, other = views.seeded(images, seeds(2000)), views(images, CHANCE)
    for statistic in (Tensor.mean, Tensor.std):
        first, second = (statistic(v.flatten(1), dim=1) for v in (one, other))
        assert torch.allclose(first.mean(), second.mean(), atol=0.01)
        assert torch.allclose(first.std(), second.std(), atol=0.01)
