"""Random images, and what the augmentations draw for them."""

import torch
from torch import Tensor

from common.augmentations import operations as ops


def random_images(count: int, channels: int, height: int, width: int = 0) -> Tensor:
    shape = (count, channels, height, width or height)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(7))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(count: int = 1, **given: float) -> ops.Draws:
    """Draws that leave everything in the middle (no shift, no angle, no change), except `given`."""
    return ops.Draws(*(torch.full((count,), given.get(f, 0.5)) for f in ops.Draws._fields))
