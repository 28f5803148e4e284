"""Sinkhorn's assignments, and SwAV's swapped prediction."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.assignments import assignment_error
from common.losses.sinkhorn import sinkhorn
from common.objectives.base import LocalRound
from common.objectives.swav import SwAV
from common.utils.errors import UserError
from tests.builders.objectives import objective, views
from tests.common.objectives.slow import assert_equal_with_gradients


def swav(parameters: str = "prototypes=6") -> SwAV:
    part = objective("swav", parameters=parameters)
    assert isinstance(part, SwAV)
    return part


def cosines(n: int = 9, k: int = 4, seed: int = 3) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    z, c = torch.randn(n, 5, generator=chance), torch.randn(k, 5, generator=chance)
    return F.normalize(z, dim=1) @ F.normalize(c, dim=1).T


def slow_sinkhorn(
    scores: Tensor, epsilon: float, iterations: int, shares: list[float] | None = None
) -> Tensor:
    """Columns to their shares of all rows, rows to 1, in turn; in float64, without logarithms."""
    n, k = scores.shape
    q = [[(s / epsilon).exp() for s in row] for row in scores.double()]
    for _ in range(iterations):
        for j in range(k):
            wanted = n * (shares[j] if shares else 1 / k)
            total = sum(q[i][j] for i in range(n))
            for i in range(n):
                q[i][j] = q[i][j] * wanted / total
        q = [[value / sum(row) for value in row] for row in q]
    return torch.tensor(q).float()


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("shares", [None, [0.1, 0.2, 0.3, 0.4]])
def test_sinkhorn_sets_columns_and_rows_right_in_turn(
    epsilon: float, iterations: int, shares: list[float] | None
) -> None:
    scores = cosines()
    marginals = None if shares is None else torch.tensor(shares)
    fast = sinkhorn(scores, epsilon, iterations, marginals)
    slow = slow_sinkhorn(scores, epsilon, iterations, shares)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)


def test_sinkhorn_is_lightlys() -> None:
    theirs = pytest.importorskip("lightly.loss.swav_loss").sinkhorn
    scores = cosines(32, 8)
    torch.testing.assert_close(
        sinkhorn(scores, 0.05, 3), theirs(scores, 3, 0.05), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("shares", [[0.25] * 4, [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.0, 0.0]])
def test_sinkhorn_ends_with_rows_of_sum_1_and_clusters_of_the_wanted_sizes(
    shares: list[float],
) -> None:
    assigned = sinkhorn(cosines(40), 0.2, 200, torch.tensor(shares))
    torch.testing.assert_close(assigned.sum(dim=1), torch.ones(40))
    torch.testing.assert_close(assigned.mean(dim=0), torch.tensor(shares), atol=1e-4, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_sinkhorn_stays_finite_where_the_exponential_overflows(scale: float) -> None:
    """exp(1/.005) is infinite in float32: the usual form gives NaN."""
    assigned = sinkhorn(scale * cosines().half(), 0.005, 3)
    assert assigned.dtype == torch.float32
    torch.testing.assert_close(assigned.sum(dim=1), torch.ones(9))


def test_sinkhorn_of_equal_scores_is_uniform_and_sends_no_gradient() -> None:
    assigned = sinkhorn(torch.zeros(5, 4, requires_grad=True), 0.05, 3)
    torch.testing.assert_close(assigned, torch.full((5, 4), 0.25))
    assert not assigned.requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sinkhorn(torch.zeros(4), 0.05, 3), r"\(N, K\).*\(4,\)"),
        (lambda: sinkhorn(torch.zeros(4, 2), 0.0, 3), "epsilon"),
        (lambda: sinkhorn(torch.zeros(4, 2), 0.05, 0), "iterations"),
        (lambda: sinkhorn(torch.zeros(4, 2), 0.05, 3, torch.ones(3)), r"\(2,\).*\(3,\)"),
        (lambda: assignment_error(torch.zeros(4, 2), torch.zeros(4, 3), 0.1), r"\(4, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def slow_swav(s_a: Tensor, s_b: Tensor, temperature: float) -> Tensor:
    q_a, q_b = (slow_sinkhorn(s.detach(), 0.05, 3) for s in (s_a, s_b))
    losses = []
    for scores, assigned in ((s_a, q_b), (s_b, q_a)):
        for row, q in zip(scores, assigned, strict=True):
            p = (row / temperature).exp() / (row / temperature).exp().sum()
            losses.append(-sum(q[k] * p[k].log() for k in range(len(q))))
    return torch.stack(losses).mean()


def test_swav_is_the_papers() -> None:
    part = swav()
    seen = part.represent(views(12))
    c = part.prototypes.vectors
    s_a, s_b = (F.normalize(z, dim=1) @ c.T for z in (seen.z_a, seen.z_b))
    slow = slow_swav(s_a, s_b, 0.1)
    assert_equal_with_gradients(part.terms(seen)["prediction"], slow, (c, seen.z_a, seen.z_b))


def test_swav_is_lightlys() -> None:
    loss = pytest.importorskip("lightly.loss").SwaVLoss()
    part = swav()
    seen = part.represent(views(12))
    scores = [part.prototypes(seen.z_a), part.prototypes(seen.z_b)]
    inputs = (part.prototypes.vectors, seen.z_a, seen.z_b)
    (theirs,) = loss(scores, [])
    assert_equal_with_gradients(part.terms(seen)["prediction"], theirs, inputs)


def lengths(part: SwAV) -> Tensor:
    return part.prototypes.vectors.detach().norm(dim=1)


def test_prototypes_are_shared_and_of_unit_length_whenever_they_are_used() -> None:
    part = swav()
    assert part.shared().keys() == {"encoder", "projector", "prototypes"}
    assert part.local() == {}
    torch.testing.assert_close(lengths(part), torch.ones(6))
    chance = torch.Generator()
    for moment in (
        lambda: part.begin_round(
            LocalRound(lambda: torch.empty(0), lambda: iter(()), None, chance)
        ),
        lambda: part.after_step(0.5),
    ):
        before = part.prototypes.vectors.detach().clone()
        with torch.no_grad():
            part.prototypes.vectors.mul_(0.7)  # as a mean over sites, or a step, leaves them
        moment()
        torch.testing.assert_close(part.prototypes.vectors.detach(), before)


def test_as_many_prototypes_as_clusters_are_a_cluster_head() -> None:
    part = swav("prototypes=0")
    h = torch.rand(7, part.encoder.feature_dim)
    assigned = part.assignments(h)
    assert assigned is not None and assigned.shape == (7, 4)
    expected = part.prototypes(part.projector(h)).argmax(dim=1)
    assert torch.equal(assigned.argmax(dim=1), expected)
    assert swav().assignments(h) is None


def test_prototypes_that_a_mean_over_sites_has_shortened_are_the_same_cluster_head() -> None:
    """Sites score the state as it was averaged, before any round has made them longer again."""
    part = swav("prototypes=0")
    h = torch.rand(40, part.encoder.feature_dim, generator=torch.Generator().manual_seed(0))
    before = part.eval().assignments(h)
    with torch.no_grad():
        part.prototypes.vectors.mul_(torch.tensor([[0.2], [1.0], [0.5], [0.9]]))
    after = part.assignments(h)
    assert before is not None and after is not None
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("parameters", ["prototypes=-1", "iterations=0", "epsilon=0.0"])
def test_numbers_out_of_range_are_refused_in_one_line(parameters: str) -> None:
    with pytest.raises(UserError, match="objective 'swav'"):
        swav(parameters)


def test_scores_are_in_float32_under_mixed_precision() -> None:
    part, z = (
        swav(),
        torch.randn(8, 128, generator=torch.Generator().manual_seed(1)),
    )
    plain = part.prototypes(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(part.prototypes(z), plain)
