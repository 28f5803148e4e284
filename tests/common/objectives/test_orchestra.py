"""Orchestra at a site: its losses, its first round, what it does to the prototypes and when."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.assignments import disagreement
from common.objectives.orchestra import Orchestra, Parameters, local_centroids, turn
from common.utils.errors import UserError
from tests.builders.objectives import draws, local_round, objective, views

SMALL = "global-clusters=12 local-clusters=3 memory=24 hidden=16 width=8"


def orchestra(parameters: str = SMALL) -> Orchestra:
    part = objective("orchestra", parameters=parameters)
    assert isinstance(part, Orchestra)
    return part


def unit(*shape: int, seed: int = 3) -> Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def step(part: Orchestra, optimiser: torch.optim.Optimizer, seed: int) -> dict[str, Tensor]:
    terms = part.terms(part.represent(views(24, seed=seed)))
    optimiser.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    optimiser.step()
    part.after_step(0.5)
    return terms


def adam(part: Orchestra) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in part.parameters() if p.requires_grad], lr=1e-2)


def slow_disagreement(z: Tensor, t: Tensor, c: Tensor, temperature: float) -> Tensor:
    def q(x: Tensor) -> Tensor:
        scores = torch.stack([(row @ x) / x.norm() / temperature for row in c]).exp()
        return scores / scores.sum()

    errors = [-(q(y) * q(x).log()).sum() for x, y in zip(z, t, strict=True)]
    return torch.stack(errors).mean()


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_online_network_is_to_assign_as_the_target_does(temperature: float) -> None:
    z, t = (3 * unit(2, 6, 5)).unbind()
    z, t, c = z.clone().requires_grad_(), t.clone().requires_grad_(), unit(4, 5, seed=4)
    fast = disagreement(z, t, c, temperature)
    slow = slow_disagreement(z, t.detach(), c, temperature)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    (gradient, none) = torch.autograd.grad(fast, (z, t), allow_unused=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(slow, z)[0], atol=1e-5, rtol=1e-5)
    assert none is None


def test_a_sure_and_equal_assignment_costs_nothing_and_no_prototypes_cost_log_g() -> None:
    z = torch.eye(3)
    assert disagreement(z, z, torch.eye(3), 0.01).item() == pytest.approx(0, abs=1e-6)
    assert disagreement(z, z, torch.zeros(7, 3), 0.1).item() == pytest.approx(math.log(7))
    with pytest.raises(ValueError, match=r"\(G, p\) prototypes"):
        disagreement(z, z, torch.zeros(7, 4), 0.1)


def test_autocast_does_not_take_its_digits() -> None:
    z, t, c = unit(3, 6, 5)
    exact = disagreement(z, t, c, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = disagreement(z, t, c, 0.1)
    assert torch.equal(exact, mixed)


def test_each_image_is_turned_by_its_own_number_of_quarters() -> None:
    images = torch.rand(5, 3, 4, 4)
    quarters = torch.tensor([0, 1, 2, 3, 1])
    for image, k, turned in zip(images, quarters, turn(images, quarters), strict=True):
        assert torch.equal(turned, image.rot90(int(k), (1, 2)))
    with pytest.raises(ValueError, match="square"):
        turn(torch.rand(2, 1, 4, 5), quarters[:2])


def test_terms_are_agreement_both_ways_and_the_rotations_cross_entropy() -> None:
    part = orchestra()
    part.prototypes.rows.copy_(unit(12, 8))
    part.begin_round(local_round(torch.eye(4)))
    seen = part.represent(views(24))
    quarters = torch.randint(4, (24,), generator=torch.Generator().manual_seed(7))
    seen.batch.generator.manual_seed(7)
    terms = part.terms(seen)
    c = part.prototypes.rows
    both = [
        slow_disagreement(seen.z_b, seen.t_a, c, 0.1),
        slow_disagreement(seen.z_a, seen.t_b, c, 0.1),
    ]
    torch.testing.assert_close(terms["agreement"], 0.5 * (both[0] + both[1]))
    logits = part.rotation(part.projector(part.encoder(turn(seen.batch.a, quarters))))
    told = [-logit.log_softmax(0)[k] for logit, k in zip(logits, quarters, strict=True)]
    torch.testing.assert_close(terms["rotation"], torch.stack(told).mean())


def test_prototypes_are_the_received_ones_until_the_round_ends() -> None:
    part = orchestra().train()
    received = unit(12, 8)
    part.prototypes.rows.copy_(received)
    part.begin_round(local_round(torch.eye(4)))
    optimiser = adam(part)
    for seed in (1, 2, 3):
        terms = step(part, optimiser, seed)
        assert torch.equal(part.prototypes.rows, received)
        assert terms["agreement"] > 0 and terms["rotation"] > 0
    part.end_round(local_round(torch.eye(4)))
    rows = part.prototypes.rows
    torch.testing.assert_close(rows[:3].norm(dim=1), torch.ones(3))
    assert not rows[3:].any()


def test_all_that_is_trained_gets_a_gradient_and_target_and_prototypes_get_none() -> None:
    part = orchestra()
    part.prototypes.rows.copy_(unit(12, 8))
    part.begin_round(local_round(torch.eye(4)))
    terms = part.terms(part.represent(views(24)))
    torch.stack(list(terms.values())).sum().backward()
    for name, module in part.shared().items():
        for p in module.parameters():
            assert (p.grad is None) if name in ("target", "prototypes") else p.grad.any()
    assert part.local() == {} and part.received() == {}


def test_the_first_round_only_clusters() -> None:
    part = orchestra().train()
    with torch.no_grad():
        part.encoder.network[0].weight.mul_(2)  # learned in a stage before
    before = [p.clone() for p in part.encoder.parameters()]
    part.begin_round(local_round(torch.eye(4)))
    optimiser = adam(part)
    for seed in (1, 2):
        terms = step(part, optimiser, seed)
        assert all(term.item() == 0 for term in terms.values())
    for old, new, target in zip(
        before, part.encoder.parameters(), part.target.encoder.parameters(), strict=True
    ):
        assert torch.equal(old, new) and torch.equal(old, target)
    part.end_round(local_round(torch.eye(4)))
    assert part.prototypes.rows[:3].norm(dim=1).tolist() == pytest.approx([1, 1, 1])


def test_the_target_follows_with_a_constant_momentum() -> None:
    part = orchestra(SMALL + " momentum=0.9")
    for progress in (0.0, 1.0):
        with torch.no_grad():
            part.encoder.network[0].weight.add_(1)
        old = part.target.encoder.network[0].weight.clone()
        part.after_step(progress)
        new = part.target.encoder.network[0].weight
        torch.testing.assert_close(new, 0.9 * old + 0.1 * part.encoder.network[0].weight)


@pytest.mark.parametrize(
    "rows", [0.5 * unit(12, 8), torch.eye(12, 8), torch.full((12, 8), torch.nan)]
)
def test_prototypes_of_another_aggregation_are_refused(rows: Tensor) -> None:
    part = orchestra()
    part.prototypes.rows.copy_(rows)
    with pytest.raises(UserError, match="needs aggregation 'orchestra'"):
        part.begin_round(local_round(torch.eye(4)))


def test_more_local_clusters_than_the_server_can_take_are_refused() -> None:
    with pytest.raises(UserError, match=r"local-clusters .* \(got 20\)"):
        orchestra("local-clusters=20 global-clusters=10")


def test_local_centroids_are_the_mean_directions_of_equally_large_groups() -> None:
    centres = torch.eye(4, 6)
    points = centres.repeat_interleave(8, 0) + 0.02 * torch.randn(32, 6, generator=draws())
    settings = Parameters(local_clusters=4, memory=32)
    found = local_centroids(points, torch.arange(32), settings, draws())
    means = F.normalize(F.normalize(points, dim=1).view(4, 8, 6).sum(1), dim=1)
    assert found.shape == (4, 6)
    torch.testing.assert_close(found[(means @ found.T).argmax(1)], means)


def test_there_are_as_many_local_clusters_as_can_have_the_papers_size() -> None:
    settings = Parameters()  # 16 clusters of 128 images: 8 each
    for images, most in ((128, 16), (64, 8), (17, 2), (8, 1), (7, 0)):
        found = local_centroids(unit(images, 20), torch.arange(images), settings, draws())
        assert most - 2 <= len(found) <= most
        assert len(found) > 0 or most == 0
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))


def test_views_of_the_same_few_images_do_not_make_more_clusters() -> None:
    images = torch.arange(128) % 10
    assert len(local_centroids(unit(128, 20), images, Parameters(), draws())) == 1
    assert len(local_centroids(unit(128, 20), images % 4, Parameters(), draws())) == 0


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_fewer_distinct_points_than_local_clusters_give_each_of_them_once(distinct: int) -> None:
    points = torch.eye(4)[torch.arange(128) % distinct]
    found = local_centroids(points, torch.arange(128), Parameters(), draws())
    assert sorted(found.argmax(dim=1).tolist()) == list(range(distinct))
    assert torch.equal(found, torch.eye(4)[found.argmax(dim=1)])


def test_a_cluster_of_too_few_images_is_not_sent() -> None:
    """Two images far from all others are a cluster: their own embeddings would be as good as
    sent."""
    points = torch.eye(2, 6)[[0] * 30 + [1] * 2] + 0.02 * torch.randn(32, 6, generator=draws())
    for smallest, sent in ((1, True), (3, False)):
        settings = Parameters(local_clusters=4, memory=32, smallest=smallest)
        found = local_centroids(points, torch.arange(32), settings, draws())
        assert bool((found[:, 1] > 0.9).any()) == sent
        assert len(found) == 3 + sent


def test_the_memory_holds_the_last_images_of_the_round() -> None:
    part = orchestra()
    part.begin_round(local_round(torch.eye(4)))
    for first in (0, 16):
        batch = views(16)._replace(rows=torch.arange(first, first + 16))
        seen = part.represent(batch)
        part.terms(seen)
    assert part.recent is not None
    assert part.recent[1].tolist() == list(range(8, 32))
    assert torch.equal(part.recent[0][-16:], seen.t_a)
    part.begin_round(local_round(torch.eye(4)))
    assert part.recent is None


@pytest.mark.parametrize(("bound", "sent"), [(1, 24), (5, 4), (20, 1), (25, 0)])
def test_no_plan_gets_centroids_of_fewer_images_than_the_sites_own_bound(
    bound: int, sent: int
) -> None:
    """A coordinator who asks for a cluster for each image, and what a site with 24 images sends."""
    part = orchestra("smallest=1 local-clusters=24 memory=24 global-clusters=24")
    round_ = replace(local_round(torch.eye(4)), min_count=bound)
    part.begin_round(round_)
    part.terms(part.represent(views(24)))
    part.end_round(round_)
    rows = part.prototypes.rows
    assert int((rows.norm(dim=1) > 0).sum()) <= sent
    if bound == 1:
        assert bool((rows.norm(dim=1) > 0).any())
