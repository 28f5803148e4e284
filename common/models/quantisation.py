"""A network forwarded at a number of bits: weights and layer inputs quantised, the network as is.

Uniform asymmetric min-max quantisation of a tensor x to b bits, 2^b levels between its extremes:

    s = max((max x - min x) / (2^b - 1), 1e-8),   Q(x) = round((x - min x) / s)·s + min x,

with the straight-through gradient ∂Q/∂x := 1. A weight has a range for each output channel, a
layer's input one range for the whole batch. Biases and normalisation stay in full precision.
Quantised are the Conv2d and Linear layers of any network: what is passed to the layer by a hook,
its weight for one forward only. No module is exchanged, no parameter renamed, and a forward that
does not go through `forward_quantised` is in full precision.
At 32 bits the steps are finer than float32's own: that is full precision. Under bfloat16 autocast
the products see 8 significant bits of what the quantiser gives, whatever b is.
Sources: the quantiser: Fu et al., "CPT: Efficient Deep Neural Network Training via Cyclic
Precision", ICLR 2021 (arXiv 2101.09868) and its code; straight-through: Bengio et al., 2013
(arXiv 1308.3432).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

SMALLEST_SCALE = 1e-8
FULL_PRECISION = 32  # bits


def draw_levels(least: int, most: int, generator: torch.Generator) -> Tensor:
    """2^b - 1 for two bit-widths b drawn from least..most, as (2,) float32 on `generator`'s device.

    Each is uniform; they differ unless least = most, since at equal widths both would be the same
    network. Nothing is read back from the device. `ValueError` for an impossible range.
    """
    if not 1 <= least <= most <= FULL_PRECISION:
        raise ValueError(f"need 1 <= least <= most <= {FULL_PRECISION} bits, got {least}..{most}")
    widths, device = most - least + 1, generator.device
    first = torch.randint(widths, (1,), generator=generator, device=device)
    apart = torch.randint(1, max(widths, 2), (1,), generator=generator, device=device)
    bits = least + torch.cat([first, (first + apart) % widths])
    return ((torch.ones_like(bits) << bits) - 1).float()


def quantise_weight(weight: Tensor, levels: Tensor) -> Tensor:
    """Q of each output channel: `weight` (out, ...); `levels` 2^b - 1, a 0-d tensor."""
    return quantise(weight, levels, tuple(range(1, weight.ndim)))


def quantise_activation(x: Tensor, levels: Tensor) -> Tensor:
    """Q of the tensor as a whole: `x` of any shape; `levels` 2^b - 1, a 0-d tensor."""
    return quantise(x, levels, tuple(range(x.ndim)))


def quantise(x: Tensor, levels: Tensor, over: tuple[int, ...]) -> Tensor:
    """Q(x), of the same shape and type, with one range over the dimensions `over`."""
    if levels.ndim != 0:
        raise ValueError(f"levels must be a 0-d tensor, got shape {tuple(levels.shape)}")
    quantised: Tensor = _StraightThrough.apply(x, levels, over)
    return quantised


class _StraightThrough(torch.autograd.Function):
    """A function of its own, since x + (Q(x) - x).detach() is Q(x) only up to rounding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: Tensor, over: tuple[int, ...]) -> Tensor:
        wide = x.float()
        low = wide.amin(over, keepdim=True)
        scale = ((wide.amax(over, keepdim=True) - low) / levels).clamp_min(SMALLEST_SCALE)
        steps = wide.sub(low).div_(scale).round_()
        return torch.addcmul(low, steps, scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None, None


@contextmanager
def quantised_inputs(layers: Iterable[nn.Module], levels: Tensor) -> Iterator[None]:
    """Inside, each of `layers` gets its input quantised; afterwards no hook is left."""

    def quantise_input(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (quantise_activation(inputs[0], levels),)

    handles = [layer.register_forward_pre_hook(quantise_input) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def forward_quantised(
    module: nn.Module, x: Tensor, levels: Tensor, kept: nn.Module | None
) -> Tensor:
    """`module(x)` with every Conv2d and Linear in it quantised, but `kept` in full precision.

    Gradients reach the module's own parameters; running statistics are updated as ever.
    """
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer is not kept
    }
    weights = {
        f"{name}.weight".removeprefix("."): quantise_weight(layer.weight, levels)
        for name, layer in layers.items()
    }
    with quantised_inputs(layers.values(), levels):
        out: Tensor = functional_call(module, weights, (x,))
    return out


def first_convolution(encoder: nn.Module) -> nn.Module | None:
    """The first Conv2d in the order of modules, which sees the image: kept in full precision."""
    return next((m for m in encoder.modules() if isinstance(m, nn.Conv2d)), None)


def last_linear(head: nn.Module) -> nn.Module | None:
    """The last Linear in the order of modules, whose output the loss compares: kept in full
    precision."""
    linear = [m for m in head.modules() if isinstance(m, nn.Linear)]
    return linear[-1] if linear else None
