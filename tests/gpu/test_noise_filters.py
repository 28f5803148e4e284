"""On a GPU: the fixed encoder and its views give a CPU's bits, TF32 and mixed precision or not."""

import pytest
import torch

from common.augmentations.seeded import SeededChance, mixed
from common.models.encoders import build_encoder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (3, 96)])
@pytest.mark.parametrize("tf32", [False, True])
def test_features_are_those_of_a_cpu_to_the_bit(
    channels: int, side: int, tf32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    encoder = build_encoder("noise-filters", channels, side, seed=0).eval()
    chance = torch.Generator().manual_seed(0)
    images = torch.rand(300, channels, side, side, generator=chance)
    wanted = encoder(images)
    encoder.to("cuda", memory_format=torch.channels_last)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert torch.equal(encoder(images.cuda()).cpu(), wanted)
    assert torch.equal(encoder(images[:7].cuda()).cpu(), wanted[:7])


def test_the_chance_of_an_image_is_the_same_whole_numbers() -> None:
    seeds = torch.arange(-500, 500) * 2**40
    assert torch.equal(mixed(seeds.cuda()).cpu(), mixed(seeds))
    here, there = SeededChance(seeds).draws, SeededChance(seeds.cuda()).draws
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))
