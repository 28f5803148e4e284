"""The quantiser is the papers', and quantises one forward of a network and nothing else."""

import copy

import pytest
import torch
from torch import Tensor, nn

from common.models.encoders import ENCODERS, FIXED, build_encoder
from common.models.quantisation import (
    draw_levels,
    first_convolution,
    forward_quantised,
    last_linear,
    quantise_activation,
    quantise_weight,
)

BITS = [1, 2, 4, 8]


def levels(bits: int) -> Tensor:
    return torch.tensor(2.0**bits - 1)


def tensor(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_quantised(x: Tensor, bits: int) -> Tensor:
    """Value by value, as the formula is printed."""
    low, high = min(x.flatten().tolist()), max(x.flatten().tolist())
    scale = max((high - low) / (2**bits - 1), 1e-8)
    values = [round((value - low) / scale) * scale + low for value in x.flatten().tolist()]
    return torch.tensor(values).reshape(x.shape)


@pytest.mark.parametrize("bits", BITS)
def test_an_activation_has_one_range_for_the_whole_tensor(bits: int) -> None:
    x = tensor(3, 4, 5, 5)
    torch.testing.assert_close(quantise_activation(x, levels(bits)), slow_quantised(x, bits))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (5, 7)])
def test_a_weight_has_a_range_for_each_output_channel(bits: int, shape: tuple[int, ...]) -> None:
    weight = tensor(*shape) * torch.arange(1, shape[0] + 1).view(-1, *[1] * (len(shape) - 1))
    expected = torch.stack([slow_quantised(channel, bits) for channel in weight])
    torch.testing.assert_close(quantise_weight(weight, levels(bits)), expected)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_there_are_2_to_the_b_levels_in_each_channel(bits: int) -> None:
    quantised = quantise_weight(tensor(6, 40, 5, 5), levels(bits))
    assert [len(channel.unique()) for channel in quantised] == [2**bits] * 6


@pytest.mark.parametrize("bits", BITS)
def test_the_error_is_at_most_half_a_step(bits: int) -> None:
    weight = tensor(6, 9, 3, 3)
    flat, quantised = weight.flatten(1), quantise_weight(weight, levels(bits)).flatten(1)
    step = (flat.amax(1) - flat.amin(1)) / (2**bits - 1)
    error = (quantised - flat).abs().amax(1)
    assert (error <= step / 2 * (1 + 1e-5)).all()
    assert (error > step / 4).all()  # there is an error to bound


def test_the_gradient_goes_straight_through() -> None:
    weight, upstream = tensor(4, 3, 3, 3).requires_grad_(), tensor(4, 3, 3, 3, seed=2)
    for quantise in (quantise_weight, quantise_activation):
        (gradient,) = torch.autograd.grad((quantise(weight, levels(2)) * upstream).sum(), weight)
        assert torch.equal(gradient, upstream)


@pytest.mark.parametrize("value", [0.0, 0.3, -7.0])
def test_a_constant_tensor_stays_what_it_is(value: float) -> None:
    constant = torch.full((3, 4), value)
    assert torch.equal(quantise_activation(constant, levels(4)), constant)
    assert torch.equal(quantise_weight(constant, levels(4)), constant)


def test_32_bits_are_full_precision() -> None:
    x = tensor(64, 64)
    torch.testing.assert_close(quantise_activation(x, levels(32)), x, atol=1e-6, rtol=0)


def test_channels_last_and_bfloat16_stay_so() -> None:
    x = tensor(2, 3, 4, 4).to(torch.bfloat16, memory_format=torch.channels_last)
    quantised = quantise_activation(x, levels(4))
    assert quantised.dtype == torch.bfloat16
    assert quantised.is_contiguous(memory_format=torch.channels_last)


def test_levels_of_two_precisions_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0-d tensor, got shape \(2,\)"):
        quantise_activation(tensor(2, 2), torch.tensor([3.0, 7.0]))


def test_the_two_widths_of_a_step_come_from_the_range_and_differ() -> None:
    chance = torch.Generator().manual_seed(0)
    drawn = [tuple(draw_levels(4, 7, chance).tolist()) for _ in range(300)]
    widths = [2.0**bits - 1 for bits in (4, 5, 6, 7)]
    assert set(drawn) == {(x, y) for x in widths for y in widths if x != y}
    assert draw_levels(5, 5, chance).tolist() == [31, 31]
    assert draw_levels(32, 32, chance).tolist() == [2.0**32] * 2  # 2^32 - 1 in float32


@pytest.mark.parametrize(("least", "most"), [(0, 4), (6, 5), (6, 33)])
def test_impossible_widths_are_named(least: int, most: int) -> None:
    with pytest.raises(ValueError, match=f"{least}..{most}"):
        draw_levels(least, most, torch.Generator())


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3), nn.Flatten(),
            nn.Linear(32, 4), nn.ReLU(), nn.Linear(4, 2),
        )  # fmt: skip


@pytest.mark.parametrize("bits", BITS)
def test_a_network_forwards_with_its_weights_and_layer_inputs_quantised(bits: int) -> None:
    net, x = network(), tensor(5, 1, 8, 8)
    hidden = net[0](x).relu()
    weights = [torch.stack([slow_quantised(c, bits) for c in net[i].weight]) for i in (2, 4, 6)]
    hidden = torch.conv2d(slow_quantised(hidden, bits), weights[0], net[2].bias).flatten(1)
    hidden = (slow_quantised(hidden, bits) @ weights[1].T + net[4].bias).relu()
    expected = slow_quantised(hidden, bits) @ weights[2].T + net[6].bias
    out = forward_quantised(net, x, levels(bits), first_convolution(net))
    torch.testing.assert_close(out, expected)
    assert not torch.allclose(out, net(x))


def test_the_first_convolution_and_the_last_linear_layer_are_found() -> None:
    net = network()
    assert first_convolution(net) is net[0] and last_linear(net) is net[6]
    assert first_convolution(nn.Flatten()) is None and last_linear(nn.Flatten()) is None
    resnet = build_encoder("resnet18", 1, 8, seed=0)
    assert first_convolution(resnet) is resnet.network.conv1


def test_what_is_kept_is_in_full_precision_and_nothing_else_is() -> None:
    net, met = network(), {}

    def look(layer, inputs, output) -> None:
        met[layer] = len(inputs[0].unique()), len(layer.weight.unique())

    for layer in (net[0], net[2], net[4], net[6]):
        layer.register_forward_hook(look)
    forward_quantised(net, tensor(5, 1, 8, 8), levels(1), first_convolution(net))
    assert met[net[0]] == (5 * 64, 27)
    assert all(met[net[i]][0] == 2 for i in (2, 4, 6))
    assert met[net[2]][1] == 2 * 2 and met[net[4]][1] == 2 * 4 and met[net[6]][1] == 2 * 2


def test_a_linear_layer_alone_can_be_a_network() -> None:
    layer, x = nn.Linear(6, 3, bias=False), tensor(4, 6)
    expected = quantise_activation(x, levels(2)) @ quantise_weight(layer.weight, levels(2)).T
    torch.testing.assert_close(forward_quantised(layer, x, levels(2), None), expected)
    assert torch.equal(forward_quantised(layer, x, levels(2), layer), layer(x))


def test_after_a_forward_that_failed_the_network_is_as_before() -> None:
    net, x = network(), tensor(2, 1, 8, 8)
    before, parameters = net(x), list(net.parameters())
    with pytest.raises(RuntimeError):
        forward_quantised(net, tensor(2, 1, 5, 9), levels(2), None)
    assert all(p is q for p, q in zip(parameters, net.parameters(), strict=True))
    assert torch.equal(net(x), before)
    assert not any(module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in FIXED])
@pytest.mark.parametrize("autocast", [False, True])
def test_every_encoder_forwards_quantised_and_afterwards_in_full_precision(
    name: str, autocast: bool
) -> None:
    encoder, images = build_encoder(name, 1, 8, seed=0), tensor(4, 1, 8, 8)
    encoder.eval()
    state, plain = copy.deepcopy(encoder.state_dict()), encoder(images)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = forward_quantised(encoder, images, levels(3), first_convolution(encoder))
    out = out.float()
    assert out.shape == plain.shape and out.isfinite().all()
    assert not torch.allclose(out, plain, atol=0.02)
    assert torch.equal(encoder(images), plain)
    assert list(state) == list(encoder.state_dict())
    assert all(torch.equal(value, encoder.state_dict()[key]) for key, value in state.items())
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
