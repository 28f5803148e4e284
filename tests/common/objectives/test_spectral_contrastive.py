"""Spectral contrast with a shared second moment: its loss, and that it is the pooled one's step."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.config import recipes
from common.losses.spectral import explained, repulsion, second_moment
from common.models.encoders import Encoder
from common.objectives.base import Batch, LocalRound
from common.objectives.spectral_contrastive import Parameters, SpectralContrastive
from common.record.reader import read_run
from deploy.engines.simulate import simulate
from server.conversation.inquiry import Inquiry


def linear_spectral() -> SpectralContrastive:
    """On features that are handed in, with a linear projector."""
    torch.manual_seed(0)
    objective = SpectralContrastive(Encoder(nn.Flatten(), 6), Parameters(width=3), 10)
    objective.projector = nn.Linear(6, 3)
    return objective


def batch(n: int, seed: int) -> Batch:
    chance = torch.Generator().manual_seed(seed)
    image = torch.randn(n, 1, 2, 3, generator=chance) + seed
    a, b = (image + 0.3 * torch.randn(n, 1, 2, 3, generator=chance) for _ in range(2))
    return Batch(a, b, torch.arange(n), chance)


def whole(*batches: Batch) -> Batch:
    a, b = (torch.cat([getattr(one, view) for one in batches]) for view in "ab")
    return Batch(a, b, torch.arange(len(a)), batches[0].generator)


def site_of(*batches: Batch) -> LocalRound:
    return LocalRound(
        embed=lambda: torch.zeros(0),
        views=lambda: iter(batches),
        centroids=None,
        generator=batches[0].generator,
    )


def gradient(objective: SpectralContrastive, seen: Batch) -> Tensor:
    loss = torch.stack(list(objective.terms(objective.represent(seen)).values())).sum()
    (found,) = torch.autograd.grad(loss, [objective.projector.weight])
    return found


def slow_spectral_loss(z_a: Tensor, z_b: Tensor) -> Tensor:
    """-2·E[z_a·z_b] + E over all pairs of views of the squared inner product: tr(R²) written out
    (HaoChen et al., 2021, eq. 6, with a row paired with itself as well)."""
    attraction = sum(a @ b for a, b in zip(z_a, z_b, strict=True)) / len(z_a)
    rows = [*z_a, *z_b]
    repulsion = sum((x @ y) ** 2 for x in rows for y in rows) / len(rows) ** 2
    return -2 * attraction + repulsion


def on_sphere(objective: SpectralContrastive, images: Tensor) -> Tensor:
    z = objective.projector(objective.encoder(images))
    return Parameters().squared_radius ** 0.5 * z / z.norm(dim=1, keepdim=True)


def test_alone_it_is_the_spectral_contrastive_loss() -> None:
    objective, seen = linear_spectral(), batch(5, seed=1)
    fast = torch.stack(list(objective.terms(objective.represent(seen)).values())).sum()
    slow = slow_spectral_loss(on_sphere(objective, seen.a), on_sphere(objective, seen.b))
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    weight = objective.projector.weight
    for x, y in pairwise([torch.autograd.grad(loss, [weight])[0] for loss in (fast, slow)]):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def test_the_sites_first_steps_together_are_the_pooled_step_however_images_are_spread() -> None:
    """Σ_k n_k/n ∇L_k = ∇L exactly, where the sites' images could not differ more."""
    objective = linear_spectral()
    sites = [batch(4, seed=-2), batch(7, seed=0), batch(3, seed=3)]
    pooled = whole(*sites)
    slow = slow_spectral_loss(on_sphere(objective, pooled.a), on_sphere(objective, pooled.b))
    (expected,) = torch.autograd.grad(slow, [objective.projector.weight])
    moments = []
    for site in sites:
        with torch.no_grad():
            objective.prepare(site_of(site))
        moments.append(objective.moment.value * len(site.a) / len(pooled.a))
    with torch.no_grad():
        objective.moment.value.copy_(torch.stack(moments).sum(0))
    mean = torch.zeros_like(expected)
    for site in sites:
        objective.begin_round(site_of(site))
        mean += gradient(objective, site) * len(site.a) / len(pooled.a)
    torch.testing.assert_close(mean, expected, atol=1e-5, rtol=1e-5)


def test_one_site_trains_on_the_plain_loss_however_far_it_has_moved() -> None:
    objective, seen = linear_spectral(), batch(6, seed=1)
    with torch.no_grad():
        objective.prepare(site_of(seen))
    objective.begin_round(site_of(seen))
    with torch.no_grad():
        objective.projector.weight.add_(0.5)
    loss = torch.stack(list(objective.terms(objective.represent(seen)).values())).sum()
    slow = slow_spectral_loss(on_sphere(objective, seen.a), on_sphere(objective, seen.b))
    torch.testing.assert_close(loss, slow, atol=1e-5, rtol=1e-5)


def test_prepare_is_the_moment_of_all_images_whatever_the_batches() -> None:
    objective, parts = linear_spectral(), [batch(4, seed=1), batch(6, seed=2)]
    with torch.no_grad():
        objective.prepare(site_of(*parts))
        z = torch.cat([on_sphere(objective, view) for view in whole(*parts)[:2]])
    torch.testing.assert_close(objective.moment.value, second_moment(z))
    assert objective.moment.value.trace().item() == pytest.approx(4.0, abs=1e-5)


def test_the_own_moment_speaks_for_everybody_as_far_as_it_is_everybodys() -> None:
    mean = torch.diag(torch.tensor([1.0, 1.0, 0.0]))
    assert explained(mean, mean) == 1
    assert explained(torch.zeros(3, 3), mean) == 0
    assert explained(torch.diag(torch.tensor([2.0, 0.0, 0.0])), mean) == 0
    assert explained(torch.diag(torch.tensor([0.0, 0.0, 2.0])), mean) < 0


def test_at_a_site_unlike_the_others_only_its_own_share_moves_the_moment_on() -> None:
    objective, site = linear_spectral(), batch(6, seed=1)
    with torch.no_grad():
        own = second_moment(torch.cat([on_sphere(objective, view) for view in site[:2]]))
        rare = torch.linalg.eigh(own).eigenvectors[:, 0]  # where the site has least
        received = 0.2 * torch.outer(rare, rare)
        objective.moment.value.copy_(received)
    objective.begin_round(site_of(site))
    assert explained(own, received) < 0.1
    z = torch.cat([on_sphere(objective, view) for view in site[:2]])
    expected = repulsion(second_moment(z), received - 0.1 * own, 0.1)
    terms = objective.terms(objective.represent(site))
    torch.testing.assert_close(terms["repulsion"], expected, atol=1e-5, rtol=1e-5)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        repulsion(torch.eye(3), torch.eye(2))


def test_a_round_begins_with_the_mean_of_the_sites_moments(tmp_path: Path, monkeypatch) -> None:
    held: list[Inquiry] = []
    original = Inquiry.hold

    def watched(self, *rest):
        original(self, *rest)
        held.append(self)

    monkeypatch.setattr(Inquiry, "hold", watched)
    plan = recipes.load("fedsimclr").plan(
        {
            "objective": "spectral-contrastive",
            "normalisation": "group",
            "images": 120,
            "sites": 2,
            "rounds": 2,
            "local-epochs": 1,
            "size-skew": 1.0,
        }
    )
    simulate(plan, tmp_path / "run")
    kinds = [exchange.asked.kind for exchange in held]
    assert kinds == ["prepare", "train", "prepare", "train", "assess", "score"]
    for prepared, trained in (held[:2], held[2:4]):
        mean = prepared.update.result()
        assert mean.keys() == {"moment"}
        assert np.array_equal(trained.asked.groups["moment"], mean["moment"])
        assert np.trace(mean["moment"].reshape(64, 64)) == pytest.approx(4.0, abs=1e-3)
        others = [name for name in trained.asked.groups if name != "moment"]
        for name in others:
            assert np.array_equal(trained.asked.groups[name], prepared.asked.groups[name])
    first = read_run(tmp_path / "run").rounds[0]
    assert "prepare" in first.seconds


def test_one_sites_run_is_plain_spectral_contrast(tmp_path: Path, monkeypatch) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    original = SpectralContrastive.begin_round

    def watched(self, site):
        original(self, site)
        seen.append(self._everybody)

    monkeypatch.setattr(SpectralContrastive, "begin_round", watched)
    options = {
        "objective": "spectral-contrastive",
        "images": 120,
        "sites": 1,
        "rounds": 2,
        "local-epochs": 1,
    }
    simulate(recipes.load("fedsimclr").plan(options), tmp_path / "run")
    for others, weight in seen:  # R̄ - β·R⁰ and β; averaging rounds to fixed point
        torch.testing.assert_close(others, torch.zeros_like(others), atol=1e-6, rtol=0)
        assert weight.item() == pytest.approx(1, abs=1e-6)
    assert len(seen) == 2


def test_a_run_of_it_repeats_bit_for_bit(tmp_path: Path) -> None:
    options = {
        "objective": "spectral-contrastive",
        "images": 120,
        "sites": 2,
        "rounds": 1,
        "local-epochs": 1,
    }
    plan = recipes.load("fedsimclr").plan(options)
    for name in ("one", "two"):
        simulate(plan, tmp_path / name)
    one, two = (tmp_path / name / "encoder.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
