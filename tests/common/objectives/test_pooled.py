"""Losses of means: what sites add to a pooled gradient, and the loss that is new."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.contrastive import nt_xent
from common.losses.second_order import second_order_repulsion
from common.objectives.base import Batch, LocalRound
from common.objectives.pooled import Pooled, part_of
from tests.builders.objectives import draws, objective, total, views

NAMES = ("spectral-contrastive", "second-order-infonce", "barlow-twins", "vicreg")


def pooled_objective(name: str) -> Pooled:
    """Without BatchNorm; in float64, so that nothing but the mathematics is compared."""
    found = objective(name, encoder="pixels", parameters={"width": 8})
    found.projector = torch.nn.Linear(64, 8)
    assert isinstance(found, Pooled)
    found.synchronise()
    return found.double()


def gradient(model: Pooled, loss: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, [model.projector.weight])
    return found


def whole_terms(model: Pooled, batch: Batch) -> dict[str, Tensor]:
    """Of a batch by itself; where `terms` divides by N - 1, by N."""
    terms = Pooled.terms if model.name == "vicreg" else type(model).terms
    return terms(model, model.represent(batch))


def double(batch: Batch) -> Batch:
    return batch._replace(a=batch.a.double(), b=batch.b.double())


@pytest.mark.parametrize("name", NAMES)
def test_the_sites_gradients_add_up_to_the_pooled_loss(name: str) -> None:
    """Whatever the images of each."""
    model, whole = pooled_objective(name), double(views(12))
    sites = [torch.tensor(rows) for rows in ([0, 1, 2, 3, 4, 5, 6], [7, 8], [9, 10, 11])]
    parts = [whole._replace(a=whole.a[r], b=whole.b[r], rows=r) for r in sites]
    expected = gradient(model, total(whole_terms(model, whole)))
    shares = [len(part.rows) / 12 for part in parts]
    means: dict[str, Tensor] = {}
    for part, share in zip(parts, shares, strict=True):
        with torch.no_grad():
            model.prepare(LocalRound(lambda: whole.a, lambda p=part: iter([p]), None, draws()))
        for key, mean in model.pooled().items():
            means[key] = means.get(key, 0) + share * mean
    with torch.no_grad():
        for key, held in model.pooled().items():
            held.copy_(means[key])
    found, loss = torch.zeros_like(expected), 0.0
    for part, share in zip(parts, shares, strict=True):
        terms, own = part_of(model, model.represent(part))
        found += share * gradient(model, own)
        loss += share * total(terms).item()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    whole_loss = total(whole_terms(model, whole)).item()
    assert loss == pytest.approx(whole_loss, rel=1e-4)
    alone = gradient(model, total(whole_terms(model, parts[0])))
    assert (alone - expected).norm() > 0.05 * expected.norm()  # no site has it by itself


def test_what_is_shared_is_more_only_where_steps_are_synchronous() -> None:
    assert set(objective("second-order-infonce").shared()) == {"encoder", "projector"}
    assert objective("barlow-twins").prepares == ""
    assert set(pooled_objective("barlow-twins").shared()) == {"encoder", "projector", "means"}
    assert set(pooled_objective("spectral-contrastive").shared()) == {
        "encoder", "projector", "moment"
    }  # fmt: skip


def test_second_order_repulsion_is_mean_and_variance_of_each_anchors_similarities() -> None:
    z = F.normalize(torch.randn(40, 6, generator=draws(), dtype=torch.float64) + 0.5, dim=1)
    x = z @ z.T / 0.3
    slow = (x.mean(dim=1) + x.var(dim=1, correction=0) / 2).mean()
    fast = second_order_repulsion(z.mean(dim=0), z.T @ z / 40, 0.3)
    torch.testing.assert_close(fast, slow)
    with pytest.raises(ValueError, match="a mean"):
        second_order_repulsion(z[0], torch.eye(2), 0.3)


@pytest.mark.parametrize(("temperature", "within"), [(2.0, 5e-3), (0.5, 0.05)])
def test_it_is_simclrs_loss_for_projections_that_are_spread(
    temperature: float, within: float
) -> None:
    """Many images, spread over the sphere: but for the logarithm of the number of negatives."""
    n = 600
    z = F.normalize(torch.randn(n, 32, generator=draws()), dim=1)
    near = F.normalize(z + 0.2 * torch.randn(n, 32, generator=draws(1)), dim=1)
    model = objective("second-order-infonce", parameters={"temperature": temperature})
    seen = model.represent(views(4))._replace(z_a=z, z_b=near)
    exact = nt_xent(z, near, temperature) - torch.log(torch.tensor(2 * n - 1.0))
    assert abs(total(model.terms(seen)) - exact) < within


def test_with_mean_0_it_is_half_the_spectral_contrastive_loss() -> None:
    """At τ = 1/r, on projections and their opposites."""
    half = torch.randn(10, 8, generator=draws())
    z_a = torch.cat([half, -half])
    z_b = z_a + 0.1 * torch.cat([half.roll(1, 0), -half.roll(1, 0)])
    second = objective("second-order-infonce", parameters={"temperature": 0.25})
    spectral = objective("spectral-contrastive", parameters={"squared-radius": 4.0})
    seen = second.represent(views(4))._replace(z_a=z_a, z_b=z_b)
    assert 2 * total(second.terms(seen)) == pytest.approx(
        total(spectral.terms(seen)).item(), abs=1e-4
    )
