"""Layers on whole numbers: what they should give, and the same bits in any batch."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.models.heads import UnitLinear
from common.models.whole import STEP, WholeLinear, WholeUnitLinear, cosines, cut, root, whole

CHANCE = torch.Generator().manual_seed(0)
ROWS = torch.randn(3000, 301, generator=CHANCE)


def in_parts(layer, rows: Tensor, size: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([layer(part) for part in rows.split(size)])


def same(one: Tensor, other: Tensor) -> bool:
    return one.numpy().tobytes() == other.numpy().tobytes()


def test_roots_are_rounded_to_the_last_bit() -> None:
    numbers = ROWS.double().square().flatten()[:50_000]
    assert root(numbers).tolist() == [math.sqrt(number) for number in numbers.tolist()]


def test_a_root_has_a_gradient_where_one_is_asked_for() -> None:
    number = torch.tensor([4.0], dtype=torch.float64, requires_grad=True)
    root(number).sum().backward()
    assert number.grad is not None and number.grad.item() == 0.25


def test_rows_are_of_unit_length_and_multiples_of_the_step() -> None:
    found = whole(ROWS)
    assert (found / STEP == (found / STEP).round()).all()
    assert torch.allclose(found, F.normalize(ROWS.double(), dim=1), atol=STEP)


def test_rows_of_nothing_stay_nothing() -> None:
    assert (whole(torch.zeros(2, 5)) == 0).all()


@pytest.mark.parametrize("size", [1, 7, 999])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_a_row_has_the_same_bits_in_any_batch(size: int, scale: float) -> None:
    layer, second = WholeUnitLinear(301, 40), WholeLinear(40, 9, bias=False)
    with torch.no_grad():
        layer.linear.weight.normal_(0, scale, generator=CHANCE)
        for linear in (layer.linear, second):
            linear.weight.copy_(cut(linear.weight))

    def both(rows: Tensor) -> Tensor:
        return whole(second(whole(layer(rows))))

    assert same(in_parts(both, ROWS, size), in_parts(both, ROWS, 3000))


def test_sums_of_products_are_exact() -> None:
    rows, centres = whole(ROWS), F.normalize(torch.randn(6, 301, generator=CHANCE), dim=1)
    order = torch.randperm(301, generator=CHANCE)
    found = cosines(rows, centres)
    assert same(found, cosines(rows[:, order], centres[:, order]))
    assert torch.equal(found.sum(0), found.flip(0).sum(0))
    assert torch.allclose(found, rows @ centres.double().T, atol=1e-5)


def test_weights_keep_what_counts() -> None:
    weights = torch.randn(40, 301, generator=CHANCE)
    found = cut(weights)
    assert torch.allclose(found, weights, atol=float(weights.abs().max()) * 2**-26)
    assert torch.equal(cut(found), found) and torch.equal(cut(8 * weights), 8 * found)


def test_they_give_what_the_layers_in_floats_give() -> None:
    layer, exact = UnitLinear(301, 40), WholeUnitLinear(301, 40)
    exact.load_state_dict(layer.state_dict())
    assert torch.allclose(layer(ROWS), exact(ROWS), atol=1e-3)
    plain, whole_one = nn.Linear(301, 9, bias=False), WholeLinear(301, 9, bias=False)
    whole_one.load_state_dict(plain.state_dict())
    rows = whole(ROWS).float()
    assert torch.allclose(plain(rows), whole_one(rows), atol=1e-6)
