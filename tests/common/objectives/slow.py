"""What the tests of losses share: one cosine, and one comparison of values and gradients."""

import torch
from torch import Tensor


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Of two vectors (p,)."""
    return (x @ y) / (x.norm() * y.norm())


def assert_equal_with_gradients(fast: Tensor, slow: Tensor, inputs: tuple[Tensor, ...]) -> None:
    """Two losses and their gradients by `inputs` are equal to 1e-5."""
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    gradients = (torch.autograd.grad(loss, inputs, retain_graph=True) for loss in (fast, slow))
    for x, y in zip(*gradients, strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)
