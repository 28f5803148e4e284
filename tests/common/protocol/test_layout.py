"""Flat arrays hold every floating tensor of a module, in an order both ends agree on."""

import numpy as np
import pytest
import torch
from torch import nn

from common.protocol import layout


def modules(seed: int = 0) -> dict[str, nn.Module]:
    torch.manual_seed(seed)
    return {
        "encoder": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)),
        "projector": nn.Linear(4, 3),
    }


def test_flat_arrays_go_there_and_back_bit_for_bit() -> None:
    source, target = modules(0), modules(1)
    layout.load(target, layout.flatten(source))
    for name, module in source.items():
        state, copy = module.state_dict(), target[name].state_dict()
        assert all(torch.equal(state[key], copy[key]) for key in state)


def test_running_statistics_are_a_group_of_their_own_and_counters_stay() -> None:
    """BatchNorm's 0-d integer counter has broken state transfers in public code."""
    source, target = modules(0), modules(1)
    source["encoder"](torch.rand(4, 1, 5, 5))
    groups = layout.flatten(source)
    assert groups.keys() == {"encoder", "encoder.buffers", "projector"}
    assert groups["encoder.buffers"].shape == (4,)
    layout.load(target, groups)
    assert source["encoder"][1].num_batches_tracked == 1
    assert target["encoder"][1].num_batches_tracked == 0


def test_loading_part_of_the_groups_leaves_the_rest() -> None:
    source, target = modules(0), modules(1)
    before = target["projector"].weight.clone()
    layout.load(target, {"encoder": layout.flatten(source)["encoder"]})
    assert torch.equal(target["projector"].weight, before)


def test_the_digest_tells_models_apart_and_not_their_values() -> None:
    same = layout.layout_of(modules(0)).digest == layout.layout_of(modules(1)).digest
    other = {**modules(0), "projector": nn.Linear(4, 2)}
    assert same
    assert layout.layout_of(modules(0)).digest != layout.layout_of(other).digest
    assert layout.layout_of(modules()).size("projector") == 15


@pytest.mark.parametrize(
    ("group", "size", "message"),
    [("nobody", 3, "no group 'nobody'"), ("projector", 3, "15 numbers")],
)
def test_what_does_not_fit_is_named(group: str, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layout.load(modules(), {group: np.zeros(size, np.float32)})
