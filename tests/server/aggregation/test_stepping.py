"""The server's optimiser is torch's, with its memory in flat arrays."""

import numpy as np
import pytest
import torch
from torch import nn

from common.config.options import Stage
from common.optimisers import build_optimiser, learning_rate
from server.aggregation.stepping import step


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1, "schedule": "cosine"},
        {"optimiser": "sgd", "weight_decay": 0.1},
        {"optimiser": "sgd", "momentum": 0.9, "schedule": "cosine"},
    ],
)
def test_its_steps_are_those_of_torchs(options: dict) -> None:
    stage = Stage(name="s", objective="o", learning_rate=0.05, rounds=6, **options)
    rng = np.random.default_rng(0)
    start = {"encoder": rng.normal(size=50), "projector": rng.normal(size=7)}
    groups = {name: array.astype(np.float32) for name, array in start.items()}
    groups["moment"] = np.ones(3, np.float32)  # without a gradient
    parameters = [nn.Parameter(torch.tensor(groups[name])) for name in start]
    optimiser = build_optimiser(stage, parameters)
    memory: dict[str, np.ndarray] = {}
    for number in range(6):
        scale = 10.0 ** -(2 * number)  # also where a gradient is as small as ε
        gradient = {
            n: (scale * rng.normal(size=len(a))).astype(np.float32) for n, a in start.items()
        }
        for parameter, name in zip(parameters, start, strict=True):
            parameter.grad = torch.tensor(gradient[name])
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(stage, number / 6)
        optimiser.step()
        before = {name: array.copy() for name, array in {**groups, **memory}.items()}
        kept = {**groups, **memory}
        groups, memory = step(stage, groups, gradient, memory, number / 6)
        assert all(np.array_equal(kept[name], before[name]) for name in before)
    for parameter, name in zip(parameters, start, strict=True):
        np.testing.assert_allclose(groups[name], parameter.detach(), rtol=2e-6, atol=1e-7)
    assert np.array_equal(groups["moment"], np.ones(3))
    assert all(array.dtype == np.float32 and array.ndim == 1 for array in memory.values())
