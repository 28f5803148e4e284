"""Every loss equals a slow, readable one written from its paper, in value and gradient."""

import math

import pytest
import torch
from torch import Tensor

from common.losses.clusters import imbalance
from common.losses.contrastive import info_nce, nt_xent, symmetric_info_nce
from common.losses.cosine import prediction_error
from tests.common.objectives.slow import assert_equal_with_gradients, cosine


def slow_nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    rows = [*a, *b]
    n = len(a)
    total = torch.zeros((), dtype=a.dtype)
    for i, row in enumerate(rows):
        positive = rows[(i + n) % (2 * n)]
        others = [other for j, other in enumerate(rows) if j != i]
        top = (cosine(row, positive) / temperature).exp()
        bottom = torch.stack([(cosine(row, o) / temperature).exp() for o in others]).sum()
        total = total - (top / bottom).log()
    return total / (2 * n)


def slow_info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    total = torch.zeros((), dtype=queries.dtype)
    for i, query in enumerate(queries):
        scores = torch.stack([(cosine(query, key) / temperature).exp() for key in keys])
        total = total - (scores[i] / scores.sum()).log()
    return total / len(queries)


def pair(n: int = 6, width: int = 5) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, n, width, generator=chance)
    return a.requires_grad_(), b.requires_grad_()


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_nt_xent_is_the_papers(temperature: float) -> None:
    a, b = pair()
    assert_equal_with_gradients(nt_xent(a, b, temperature), slow_nt_xent(a, b, temperature), (a, b))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_lightlys(temperature: float) -> None:
    loss = pytest.importorskip("lightly.loss").NTXentLoss(temperature=temperature)
    a, b = pair()
    assert_equal_with_gradients(nt_xent(a, b, temperature), loss(a, b), (a, b))


def test_nt_xent_masks_self_similarity_instead_of_zeroing_it() -> None:
    """Multiplying the diagonal by 0 leaves exp(0) = 1 in every denominator (a public bug): with
    perfectly separated pairs the loss would then stay above log(1 + 1/e^{1/τ})."""
    a = torch.eye(2)
    temperature = 0.05
    expected = math.log(1 + 2 * math.exp(-1 / temperature))  # one positive, two at cosine 0
    assert nt_xent(a, a, temperature).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_info_nce_is_the_papers(temperature: float) -> None:
    a, b = pair()
    assert_equal_with_gradients(
        info_nce(a, b, temperature), slow_info_nce(a, b, temperature), (a, b)
    )


def test_symmetric_info_nce_contrasts_each_view_with_the_other_views_target() -> None:
    a, b = pair()
    t_a, t_b = (x.detach() + 0.1 for x in pair())
    expected = 0.5 * (slow_info_nce(a, t_b, 0.2) + slow_info_nce(b, t_a, 0.2))
    assert_equal_with_gradients(symmetric_info_nce(a, b, t_a, t_b, 0.2), expected, (a, b))


def test_prediction_error_is_2_minus_2_cos_and_sends_no_gradient_to_the_target() -> None:
    a, b = pair()
    slow = torch.stack([2 - 2 * cosine(x, y.detach()) for x, y in zip(a, b, strict=True)]).mean()
    fast = prediction_error(a, b)
    assert_equal_with_gradients(fast, slow, (a,))
    fast = prediction_error(a, b)
    assert torch.autograd.grad(fast, b, allow_unused=True) == (None,)


def test_prediction_error_is_lightlys_up_to_its_constant() -> None:
    loss = pytest.importorskip("lightly.loss").NegativeCosineSimilarity()
    a, b = pair()
    assert_equal_with_gradients(prediction_error(a, b), 2 + 2 * loss(a, b.detach()), (a,))


def test_imbalance_is_0_for_equal_clusters_and_log_k_for_one() -> None:
    equal = torch.full((8, 4), 0.25)
    single = torch.eye(4)[[0] * 8]
    assert imbalance(equal).item() == pytest.approx(0, abs=1e-6)
    assert imbalance(single).item() == pytest.approx(math.log(4), abs=1e-6)


@pytest.mark.parametrize(
    "loss", [lambda a, b: nt_xent(a, b, 0.5), lambda a, b: info_nce(a, b, 0.5)]
)
def test_mismatched_batches_are_named(loss) -> None:
    with pytest.raises(ValueError, match=r"\(N, p\)"):
        loss(torch.zeros(3, 2), torch.zeros(4, 2))
