"""Losses on images that are to be forgotten, beside slow ones written from the papers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from common.losses.unlearning import alignment, another_as_positive, away_from_own, derangement
from tests.builders.objectives import draws


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.norm() * b.norm())


def slow_away(u: Tensor, r: Tensor, own: list[int], others: list[int], tau: float) -> Tensor:
    terms = []
    for i, label in enumerate(own):
        same = [j for j, other in enumerate(others) if other == label]
        different = [j for j, other in enumerate(others) if other != label]
        if not same or not different:
            continue
        below = sum(torch.exp(cosine(u[i], r[p]) / tau) for p in same)
        logs = [torch.log(torch.exp(cosine(u[i], r[a]) / tau) / below) for a in different]
        terms.append(-sum(logs) / len(different))
    return sum(terms) / len(terms)


def slow_another(a: Tensor, b: Tensor, other: list[int], tau: float) -> Tensor:
    rows = [*a, *(b[j] for j in other)]
    n, terms = len(a), []
    for i, row in enumerate(rows):
        below = sum(torch.exp(cosine(row, each) / tau) for j, each in enumerate(rows) if j != i)
        terms.append(-torch.log(torch.exp(cosine(row, rows[(i + n) % (2 * n)]) / tau) / below))
    return sum(terms) / len(terms)


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=draws(seed)).requires_grad_()


def same_values_and_gradients(fast: Tensor, slow: Tensor, *of: Tensor) -> None:
    assert fast.item() == pytest.approx(slow.item(), abs=1e-5)
    one, other = (torch.autograd.grad(loss, of) for loss in (fast, slow))
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_away_from_own_is_the_papers_sum() -> None:
    u, r = points(4, 5), points(7, 5, seed=1)
    own, others = [0, 1, 2, 0], [0, 0, 1, 1, 1, 2, 2]
    fast = away_from_own(u, r, torch.tensor(own), torch.tensor(others), 0.7)
    same_values_and_gradients(fast, slow_away(u, r, own, others, 0.7), u, r)


def test_an_anchor_without_a_retained_sample_of_its_class_is_left_out() -> None:
    u, r = points(3, 5), points(4, 5, seed=1)
    own, others = [0, 9, 1], [0, 0, 1, 1]
    fast = away_from_own(u, r, torch.tensor(own), torch.tensor(others), 0.7)
    same_values_and_gradients(fast, slow_away(u, r, own, others, 0.7), u, r)
    again = away_from_own(u, r, torch.tensor(own), torch.tensor(others), 0.7)
    (gradient,) = torch.autograd.grad(again, u)
    assert (gradient[1] == 0).all() and (gradient[[0, 2]] != 0).any()


@pytest.mark.parametrize("others", [[5, 5, 5, 5], [0, 0, 0, 0]])
def test_without_anything_to_be_moved_by_nothing_is_moved(others: list[int]) -> None:
    u, r = points(2, 5), points(4, 5, seed=1)
    loss = away_from_own(u, r, torch.tensor([0, 0]), torch.tensor(others), 0.7)
    (gradient,) = torch.autograd.grad(loss, u)
    assert loss.item() == 0 and bool(gradient.isfinite().all())


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(2, 5\), \(4, 3\)"):
        away_from_own(points(2, 5), points(4, 3), torch.zeros(2), torch.zeros(4), 0.7)


def test_another_image_is_the_positive_and_the_own_view_a_negative() -> None:
    a, b = points(5, 4), points(5, 4, seed=1)
    other = derangement(5, draws())
    fast = another_as_positive(a, b, other, 0.5)
    same_values_and_gradients(fast, slow_another(a, b, other.tolist(), 0.5), a, b)
    with pytest.raises(ValueError, match="its own positive"):
        another_as_positive(a, b, torch.arange(5), 0.5)


def test_alignment_is_the_mean_cosine_of_an_images_two_views() -> None:
    a, b = points(5, 4), points(5, 4, seed=1)
    slow = torch.stack([cosine(x, y) for x, y in zip(a, b, strict=True)]).mean()
    same_values_and_gradients(alignment(a, b), slow, a, b)


@given(st.integers(2, 40), st.integers(0, 5))
def test_a_derangement_leaves_nothing_in_its_place(n: int, seed: int) -> None:
    found = derangement(n, draws(seed)).tolist()
    assert sorted(found) == list(range(n))
    assert all(i != j for i, j in enumerate(found))


def test_of_one_image_there_is_no_other() -> None:
    with pytest.raises(ValueError, match="1 images"):
        derangement(1, draws())
    assert derangement(2, draws()).tolist() == [1, 0]
