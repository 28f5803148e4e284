"""Barlow Twins and VICReg: losses on the dimensions of a batch of projections."""

import math

import pytest
import torch
from torch import Tensor

from common.losses.redundancy import covariance, cross_correlation, missing_spread, off_diagonal
from common.objectives.base import Batch, Representations
from tests.builders.objectives import objective
from tests.builders.objectives import total as sum_of
from tests.common.objectives.slow import assert_equal_with_gradients


def pair(n: int = 8, width: int = 5) -> tuple[Tensor, Tensor]:
    a, noise = torch.randn(2, n, width, generator=torch.Generator().manual_seed(3))
    a = a * torch.linspace(0.2, 2, width) + 1  # dimensions of different scale, with a mean
    return a.requires_grad_(), (a + noise).detach().requires_grad_()


def seen(a: Tensor, b: Tensor) -> Representations:
    nothing = Batch(a, b, torch.arange(len(a)), torch.Generator())
    return Representations(nothing, a, b, a, b, a.detach(), b.detach())


def total(name: str, a: Tensor, b: Tensor, parameters: str = "") -> Tensor:
    return sum_of(objective(name, parameters=parameters).terms(seen(a, b)))


def slow_correlation(a: Tensor, b: Tensor, i: int, j: int) -> Tensor:
    """C_ij: eq. 2 of Barlow Twins on dimensions shifted to mean 0, with BatchNorm's 1e-5."""
    x, y = a[:, i] - a[:, i].mean(), b[:, j] - b[:, j].mean()
    scale = ((x * x).mean() + 1e-5).sqrt() * ((y * y).mean() + 1e-5).sqrt()
    return torch.stack([u * v for u, v in zip(x, y, strict=True)]).mean() / scale


def slow_barlow_twins(a: Tensor, b: Tensor, weight: float) -> Tensor:
    loss, width = torch.zeros(()), a.shape[1]
    for i in range(width):
        loss = loss + (1 - slow_correlation(a, b, i, i)) ** 2
        for j in range(width):
            if j != i:
                loss = loss + weight * slow_correlation(a, b, i, j) ** 2
    return loss


@pytest.mark.parametrize("weight", [0.005, 1.0])
def test_barlow_twins_is_the_papers(weight: float) -> None:
    a, b = pair()
    fast = total("barlow-twins", a, b, f"redundancy-weight={weight}")
    assert_equal_with_gradients(fast, slow_barlow_twins(a, b, weight), (a, b))


def test_barlow_twins_is_lightlys() -> None:
    loss = pytest.importorskip("lightly.loss").BarlowTwinsLoss(lambda_param=0.005)
    a, b = pair()
    assert_equal_with_gradients(total("barlow-twins", a, b), loss(a, b), (a, b))


def test_barlow_twins_is_0_for_equal_views_with_uncorrelated_dimensions() -> None:
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert total("barlow-twins", corners, corners).item() == pytest.approx(0, abs=1e-8)


def test_barlow_twins_punishes_a_collapsed_batch() -> None:
    """C of constant dimensions is 0 and not NaN: one for each dimension."""
    same = torch.ones(4, 3, requires_grad=True)
    loss = total("barlow-twins", same, same)
    assert loss.item() == pytest.approx(3)
    assert torch.isfinite(torch.autograd.grad(loss, same)[0]).all()


def slow_vicreg(a: Tensor, b: Tensor) -> Tensor:
    """25 s + 25 v + c with the constants of the authors' code."""
    n, width = a.shape
    s = torch.stack([(x - y) ** 2 for x, y in zip(a.flatten(), b.flatten(), strict=True)]).mean()
    v, c = torch.zeros(()), torch.zeros(())
    for z in (a, b):
        centred = z - z.mean(dim=0)
        for i in range(width):
            std = ((centred[:, i] ** 2).sum() / (n - 1) + 1e-4).sqrt()
            v = v + torch.clamp(1 - std, min=0) / width / 2
            for j in range(width):
                if j != i:
                    c = c + ((centred[:, i] * centred[:, j]).sum() / (n - 1)) ** 2 / width
    return 25 * s + 25 * v + c


def test_vicreg_is_the_papers_with_the_codes_constants() -> None:
    a, b = pair()
    assert_equal_with_gradients(total("vicreg", a, b), slow_vicreg(a, b), (a, b))


def test_vicreg_is_lightlys() -> None:
    loss = pytest.importorskip("lightly.loss").VICRegLoss()
    a, b = pair()
    assert_equal_with_gradients(total("vicreg", a, b), loss(a, b), (a, b))


def test_vicreg_weights_are_its_parameters() -> None:
    a, b = pair()
    parameters = "invariance-weight=1 variance-weight=2 covariance-weight=3"
    terms = objective("vicreg", parameters=parameters).terms(seen(a, b))
    plain = objective("vicreg").terms(seen(a, b))
    for name, factor in {"invariance": 1 / 25, "variance": 2 / 25, "covariance": 3.0}.items():
        torch.testing.assert_close(terms[name], factor * plain[name])


def test_vicreg_wants_variance_1_and_no_covariance() -> None:
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) * 2
    assert missing_spread(corners).item() == 0
    assert covariance(corners).item() == 0
    same = torch.ones(4, 2)
    assert missing_spread(same).item() == pytest.approx(1 - math.sqrt(1e-4))
    twice = torch.tensor([[1.0, 1], [-1, -1]])
    assert covariance(twice).item() == pytest.approx(2 * 2**2 / 2)


def test_off_diagonal_keeps_all_but_the_diagonal() -> None:
    matrix = torch.arange(9.0).view(3, 3)
    assert off_diagonal(matrix).tolist() == [[0, 1, 2], [3, 0, 5], [6, 7, 0]]


@pytest.mark.parametrize(
    "loss",
    [
        lambda: cross_correlation(torch.zeros(4, 3), torch.zeros(4, 2)),
        lambda: cross_correlation(torch.zeros(1, 3), torch.zeros(1, 3)),
        lambda: covariance(torch.zeros(1, 3)),
        lambda: missing_spread(torch.zeros(3)),
    ],
)
def test_shapes_that_do_not_fit_are_named(loss) -> None:
    with pytest.raises(ValueError, match=r"\(N, p\).*got \("):
        loss()


@pytest.mark.parametrize("name", ["barlow-twins", "vicreg"])
def test_the_loss_is_in_float32_under_mixed_precision(name: str) -> None:
    a, b = (x.detach() for x in pair(32, 16))
    plain = total(name, a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(total(name, a, b), plain)
