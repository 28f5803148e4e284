"""The uniform regulariser is the transport cost to uniform points, and goes around any stage 1."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.wasserstein import distance_from_uniform, sliced_wasserstein
from common.utils.errors import UserError
from tests.builders.objectives import draws, objective, views


def slow_sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
    """The definition: along each direction the cheapest way to carry the one points to the others,
    over all ways there are."""
    costs = []
    for theta in directions:
        ways = [
            torch.stack([(theta @ x[i] - theta @ y[j]) ** 2 for i, j in enumerate(way)]).mean()
            for way in permutations(range(len(y)))
        ]
        costs.append(torch.stack(ways).min())
    return torch.stack(costs).mean()


def test_the_sliced_distance_is_the_cheapest_matching_along_each_direction() -> None:
    x, y = torch.randn(2, 4, 3, generator=draws())
    directions = torch.randn(3, 3, generator=draws(1))
    x.requires_grad_()
    fast = sliced_wasserstein(x, y, directions)
    slow = slow_sliced_wasserstein(x, y, directions)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    ours, theirs = (torch.autograd.grad(loss, x)[0] for loss in (fast, slow))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_order_of_the_points_does_not_matter() -> None:
    x = torch.randn(6, 3, generator=draws())
    shuffled = x[torch.tensor([3, 1, 5, 0, 2, 4])]
    assert sliced_wasserstein(x, shuffled, torch.eye(3)).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3), (2, 3)), ((4, 3), (4, 3), (2, 4))])
def test_shapes_that_do_not_fit_are_named(shapes) -> None:
    with pytest.raises(ValueError, match=r"\(N, p\)"):
        sliced_wasserstein(*(torch.zeros(shape) for shape in shapes))


def test_uniform_points_are_nearer_to_uniform_than_one_hemisphere_and_that_than_one_point() -> None:
    uniform = torch.randn(256, 8, generator=draws())
    hemisphere = torch.cat([uniform[:, :1].abs(), uniform[:, 1:]], dim=1)
    point = uniform[:1].expand(256, 8)
    near, middle, far = (
        distance_from_uniform(z, 200, draws(1)).item() for z in (uniform, hemisphere, point)
    )
    assert 3 * near < middle < far / 3
    assert far == pytest.approx(2, rel=0.25)  # E[(θ·(z - u))²] = ‖z - u‖² = 2 - 2·z·u on average


def test_the_length_of_projections_does_not_matter() -> None:
    z = torch.randn(16, 4, generator=draws())
    once, scaled = (distance_from_uniform(x, 20, draws(1)) for x in (z, 7 * z))
    torch.testing.assert_close(once, scaled)


def test_minimising_it_alone_spreads_a_collapsed_batch_over_the_sphere() -> None:
    drawn = draws()
    z = (torch.ones(32, 4) + 0.05 * torch.randn(32, 4, generator=drawn)).requires_grad_()
    optimiser = torch.optim.SGD([z], lr=40)
    before = F.normalize(z, dim=1).mean(dim=0).norm().item()
    for _ in range(40):
        optimiser.zero_grad()
        distance_from_uniform(z, 50, drawn).backward()
        optimiser.step()
    after = F.normalize(z, dim=1).mean(dim=0).norm().item()
    assert before > 0.99 and after < 0.2


def test_autocast_does_not_take_its_digits() -> None:
    z = torch.randn(8, 4, generator=draws())
    exact = distance_from_uniform(z, 5, draws(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = distance_from_uniform(z, 5, draws(1))
    assert torch.equal(exact, mixed)


def test_the_points_come_from_the_generator_alone() -> None:
    z = torch.randn(8, 4, generator=draws())
    first, again, other = (distance_from_uniform(z, 5, draws(s)).item() for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("first", ["byol", "simclr", "momentum-contrast"])
def test_it_adds_its_term_for_both_views_and_nothing_else_to_what_is_inside(first: str) -> None:
    part = objective("fedu2", parameters=f"first={first} uniform-weight=0.5 directions=7")
    seen = part.represent(views(generator=draws(2)))
    terms = part.terms(seen)
    inner = part.inner.terms(seen)
    assert terms.keys() == {*inner, "uniformity"}
    assert all(torch.equal(terms[name], term) for name, term in inner.items())
    drawn = draws(2)
    expected = sum(distance_from_uniform(z, 7, drawn) for z in (seen.z_a, seen.z_b))
    torch.testing.assert_close(terms["uniformity"], 0.5 * expected)
    assert part.shared().keys() == part.inner.shared().keys()
    assert part.local().keys() == part.inner.local().keys()


def test_parameters_of_what_is_inside_reach_it() -> None:
    assert objective("fedu2", parameters="first=byol momentum=0.5").inner.momentum == 0.5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("first=fedu2", "has itself as first objective: 'fedu2'"),
        ("momentun=0.5", "did you mean 'momentum'"),
    ],
)
def test_mistakes_are_told_in_one_line(parameters: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        objective("fedu2", parameters=parameters)
    assert "\n" not in str(caught.value)
