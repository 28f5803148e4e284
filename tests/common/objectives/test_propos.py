"""Prototypes scatter as in the paper, absent clusters leave no trace, and warm-up is BYOL."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.config import recipes
from common.losses.clusters import prototype_scattering
from common.objectives.base import LocalRound
from deploy.engines.simulate import simulate
from server.conversation.roster import Roster
from tests.builders.objectives import draws, objective, views


def site(n: int = 8, clusters: int = 4) -> LocalRound:
    """A site of n images in well separated clusters, image i in cluster i % clusters."""
    points = torch.eye(max(n, clusters))[[i % clusters for i in range(n)]]
    return LocalRound(
        embed=lambda: points, views=lambda: iter(()), centroids=None, generator=draws(3)
    )


def slow_prototype_scattering(
    online: Tensor, target: Tensor, labels: list[int], temperature: float
) -> Tensor:
    def centre(points: Tensor, k: int) -> Tensor:
        own = [x / x.norm() for x, label in zip(points, labels, strict=True) if label == k]
        mean = torch.stack(own).mean(dim=0)
        return mean / mean.norm()

    present = sorted(set(labels))
    total = torch.zeros(())
    for k in present:
        positive = (centre(online, k) @ centre(target, k) / temperature).exp()
        negatives = [
            (centre(online, k) @ centre(online, j) / temperature).exp() for j in present if j != k
        ]
        total = total - (positive / (positive + sum(negatives))).log()
    return total / len(present)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 0, 1], [0, 0, 2, 2, 2, 0], [3, 3, 3, 1, 3, 3]])
@pytest.mark.parametrize("temperature", [0.5, 0.1])
def test_prototype_scattering_is_the_papers_over_the_clusters_present(labels, temperature) -> None:
    online, target = torch.randn(2, 6, 5, generator=draws())
    online.requires_grad_()
    fast = prototype_scattering(online, target, torch.tensor(labels), 4, temperature)
    slow = slow_prototype_scattering(online, target, labels, temperature)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    ours, theirs = (torch.autograd.grad(loss, online)[0] for loss in (fast, slow))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_absent_clusters_change_nothing() -> None:
    online, target = torch.randn(2, 6, 5, generator=draws())
    labels = torch.tensor([0, 1, 1, 0, 2, 2])
    few, many = (prototype_scattering(online, target, labels, k, 0.5) for k in (3, 50))
    torch.testing.assert_close(few, many, atol=1e-6, rtol=0)


def test_a_batch_of_one_cluster_has_nothing_to_scatter() -> None:
    online, target = torch.randn(2, 6, 5, generator=draws())
    online.requires_grad_()
    loss = prototype_scattering(online, target, torch.full((6,), 2), 4, 0.5)
    (gradient,) = torch.autograd.grad(loss, online)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(gradient, torch.zeros(6, 5), atol=1e-6, rtol=0)


def test_the_target_gets_no_gradient() -> None:
    online, target = torch.randn(2, 6, 5, generator=draws()).requires_grad_()
    loss = prototype_scattering(online, target, torch.tensor([0, 1, 2] * 2), 3, 0.5)
    assert torch.autograd.grad(loss, target, allow_unused=True) == (None,)


def test_autocast_does_not_take_its_digits() -> None:
    online, target = torch.randn(2, 6, 5, generator=draws())
    inputs = (online, target, torch.tensor([0, 1, 2] * 2), 4, 0.5)
    exact = prototype_scattering(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = prototype_scattering(*inputs)
    assert torch.equal(exact, mixed)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(N,\) labels"):
        prototype_scattering(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(3).long(), 2, 0.5)


def test_warm_up_is_byol_to_the_bit_and_without_it_the_epoch_has_pseudo_labels() -> None:
    part, byol = objective("propos", parameters="warm-up=0.5"), objective("byol")
    byol.load_state_dict(part.state_dict(), strict=False)
    part.begin_round(site())
    part.begin_epoch(site())
    seen = part.represent(views())
    (term,) = part.terms(seen).values()
    assert torch.equal(term, byol.terms(byol.represent(views()))["prediction"])
    part.after_step(0.5)
    part.begin_epoch(site())
    terms = part.terms(part.represent(views()))
    assert terms.keys() == {"prediction", "scattering"}


def test_scattering_contrasts_the_pseudo_labels_of_the_batchs_rows_in_both_views() -> None:
    part = objective("propos", parameters="warm-up=0 scatter-weight=3.0 temperature=0.2")
    part.begin_round(site(n=12))
    part.begin_epoch(site(n=12))
    batch = views()._replace(rows=torch.tensor([4, 9, 1, 0, 11, 7, 3, 8]))
    seen = part.represent(batch)
    # Row i is in cluster i % 4, and what the clusters are called does not matter.
    labels = [0, 1, 1, 0, 3, 3, 3, 0]
    expected = 1.5 * (
        slow_prototype_scattering(seen.z_a, seen.t_b, labels, 0.2)
        + slow_prototype_scattering(seen.z_b, seen.t_a, labels, 0.2)
    )
    torch.testing.assert_close(part.terms(seen)["scattering"], expected, atol=1e-4, rtol=1e-5)


def test_sampled_positives_move_the_prediction_by_the_noise_alone() -> None:
    losses = {}
    for noise in (0.0, 0.001, 1.0):
        part = objective("propos", parameters=f"warm-up=0 noise={noise}")
        part.begin_round(site())
        part.begin_epoch(site())
        part.eval()  # BatchNorm's running statistics would move from call to call
        losses[noise] = part.terms(part.represent(views()))["prediction"].item()
    byol = objective("byol").eval()
    assert losses[0.0] == byol.terms(byol.represent(views()))["prediction"].item()
    assert 0 < abs(losses[0.001] - losses[0.0]) < 0.01 < abs(losses[1.0] - losses[0.0])


def test_a_site_with_fewer_images_than_clusters_has_a_cluster_an_image() -> None:
    part = objective("propos", parameters="warm-up=0", clusters=10)
    few = site(n=3, clusters=3)
    part.begin_round(few)
    part.begin_epoch(few)
    terms = part.terms(part.represent(views(3)))
    assert torch.isfinite(terms["scattering"]) and terms["scattering"] > 0


@pytest.mark.parametrize(("progress", "scattered"), [(0.0, False), (0.69, False), (0.7, True)])
def test_a_round_knows_how_far_the_stage_is_whenever_the_site_last_took_part(
    progress: float, scattered: bool
) -> None:
    part = objective("propos", parameters="warm-up=0.7")
    for last in (0.0, 0.9):  # another site's progress, or this one's in a stage before
        part.after_step(last)
        part.end_round(site())
        part.begin_round(replace(site(), progress=progress))
        part.begin_epoch(site())
        assert ("scattering" in part.terms(part.represent(views()))) == scattered


def test_a_federation_warms_up_for_its_share_of_the_rounds(tmp_path: Path) -> None:
    plan = recipes.load("fedpropos").plan(
        {
            "dataset": "digits",
            "images": 60,
            "sites": 2,
            "rounds": "2",
            "local-epochs": 1,
            "batch-size": 32,
            "parameters": "warm-up=0.5",
        }
    )
    simulate(plan, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [e["loss"] for e in map(json.loads, lines) if e["event"] == "round"]
    assert ["scattering" in loss for loss in losses] == [False, True]
    assert 0 < losses[1]["scattering"] < 1


def test_a_site_asked_for_the_first_time_after_the_warm_up_has_none(
    tmp_path: Path, monkeypatch
) -> None:
    """Of two sites one takes part in the first round and the other in the second."""
    turns = {1: ["site-0"], 2: ["site-1"]}
    monkeypatch.setattr(Roster, "choose", lambda _self, number, _names, _step=0: turns[number])
    options = {"dataset": "digits", "images": 60, "sites": 2, "rounds": 2, "local-epochs": 1}
    plan = recipes.load("fedpropos").plan({**options, "parameters": "warm-up=0.5"})
    simulate(plan, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [e["loss"] for e in map(json.loads, lines) if e["event"] == "round"]
    assert ["scattering" in loss for loss in losses] == [False, True]
