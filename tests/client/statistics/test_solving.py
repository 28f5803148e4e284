"""What a site sums: in full precision, whatever the networks run in."""

import numpy as np
import torch
from torch import nn

from client.statistics.solving import view_moments
from common.augmentations import build_augmentation
from common.models.encoders import Encoder
from common.solvers.projection import Parameters, Projection


def test_moments_are_of_full_precision_where_the_encoder_is_not() -> None:
    # The encoder multiplies nothing, so that mixed precision could only spoil the moments.
    solver = Projection(Encoder(nn.Flatten(), 64), Parameters(width=4), 4)
    images = torch.randint(0, 256, (32, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    asked, found = solver.statistics()["moments"], []
    for mixed in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            chance = torch.Generator().manual_seed(1)
            views = build_augmentation("digits", "grey", 8)
            rows = torch.arange(32)
            found.append(view_moments(solver, views, images.byte(), rows, asked, chance))
    for plain, with_autocast in zip(*found, strict=True):
        np.testing.assert_allclose(with_autocast, plain, rtol=1e-6, atol=1e-6)
