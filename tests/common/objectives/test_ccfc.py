"""CCFC's losses, frozen copy of the received model and pseudo-labels; CCFC++'s regulariser."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.clustering.kmeans import kmeans
from common.config import recipes
from common.losses.clusters import cluster_attraction
from common.losses.redundancy import correlation
from common.objectives.base import Representations
from common.objectives.ccfc import pseudo_labels
from common.record.reader import read_run
from deploy.engines.simulate import simulate
from tests.builders.objectives import local_round, objective, views
from tests.common.objectives.slow import assert_equal_with_gradients, cosine


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).requires_grad_()


def distance(p: Tensor, z: Tensor) -> Tensor:
    """The paper's D, with 1 added."""
    return torch.stack([1 - cosine(x, y.detach()) for x, y in zip(p, z, strict=True)]).mean()


def slow_attraction(p: Tensor, z: Tensor, labels: list[int]) -> Tensor:
    clusters = []
    for k in sorted(set(labels)):
        members = [i for i, label in enumerate(labels) if label == k]
        pairs = [1 - cosine(p[i], z[j].detach()) for i in members for j in members]
        clusters.append(torch.stack(pairs).mean())
    return torch.stack(clusters).mean()


@pytest.mark.parametrize("labels", [[0, 0, 0, 0, 0], [0, 2, 0, 2, 4], [4, 3, 2, 1, 0]])
def test_members_of_a_pseudo_cluster_attract_each_other(labels: list[int]) -> None:
    p, z = draw(2, 5, 4).unbind()
    fast = cluster_attraction(p, z, torch.tensor(labels), 6)
    assert_equal_with_gradients(fast, slow_attraction(p, z, labels), (p,))


def test_the_attraction_sends_no_gradient_to_the_projections_and_names_bad_shapes() -> None:
    p, z, labels = draw(4, 3), draw(4, 3), torch.tensor([0, 1, 0, 1])
    loss = cluster_attraction(p, z, labels, 2)
    assert torch.autograd.grad(loss, z, allow_unused=True) == (None,)
    with pytest.raises(ValueError, match=r"\(M,\) labels, got"):
        cluster_attraction(p, z, labels[:3], 2)


def test_stage_1_is_simsiam_and_a_small_pull_towards_the_received_predictions() -> None:
    part = objective("ccfc", clusters=3, parameters="model-weight=0.5")
    batch = views()
    part.begin_round(local_round(torch.eye(8), None))
    received = part.global_model(torch.cat([batch.a, batch.b]))
    z_a, z_b = draw(2, 8, 256).unbind()
    seen = Representations(batch, z_a, z_b, z_a, z_b, z_a, z_b)
    terms = part.terms(seen)
    p_a, p_b = part.predictor(torch.cat([z_a, z_b])).chunk(2)
    prediction = 0.5 * distance(p_a, z_b) + 0.5 * distance(p_b, z_a)
    model = 0.25 * distance(p_a, received[:8]) + 0.25 * distance(p_b, received[8:])
    assert_equal_with_gradients(terms["prediction"], prediction, (z_a, z_b))
    assert_equal_with_gradients(terms["model"], model, (z_a, z_b))
    assert terms.keys() == {"prediction", "model"}


def test_stage_2_attracts_within_the_pseudo_clusters_of_the_batchs_rows() -> None:
    part = objective("ccfc-clusters", clusters=3)
    centroids = torch.eye(3)
    labels = [2, 0, 1, 0, 2, 2, 0, 1]
    part.begin_round(local_round(centroids[labels], centroids))
    batch = views(4)._replace(rows=torch.tensor([7, 0, 2, 5]))  # of clusters 1, 2, 1, 2
    seen = part.represent(batch)
    terms = part.terms(seen)
    p = part.predictor(torch.cat([seen.z_a, seen.z_b]))
    slow = slow_attraction(p, torch.cat([seen.z_a, seen.z_b]), [1, 2, 1, 2] * 2)
    weights = tuple(part.predictor.parameters())
    assert_equal_with_gradients(terms["clusters"], slow, weights)
    assert terms.keys() == {"clusters", "model"}


def test_pseudo_labels_are_the_nearest_global_centroids_whatever_their_length() -> None:
    points = torch.nn.functional.normalize(draw(20, 5).detach(), dim=1)
    centroids = points[[3, 8, 11]] * torch.tensor([[5.0], [1.0], [0.2]])
    labels = pseudo_labels(local_round(points, centroids), 3)
    for point, label in zip(points, labels, strict=True):
        assert label == max(range(3), key=lambda k: cosine(point, centroids[k]).item())


def test_before_there_are_global_centroids_a_site_has_its_own_pseudo_clusters() -> None:
    points = torch.eye(4).repeat(3, 1)[:10]
    labels = pseudo_labels(local_round(points, None), 3)
    chance = torch.Generator().manual_seed(0)
    assert torch.equal(labels, kmeans(points, 3, generator=chance, spherical=True).labels)
    assert len(labels.unique()) == 3


def test_more_clusters_than_a_site_has_distinct_points_do_no_harm() -> None:
    part = objective("ccfc-clusters", clusters=3)
    part.begin_round(local_round(torch.eye(4)[[1, 1, 1, 1, 1, 1, 1, 1]], None))
    assert part.labels is not None and part.labels.tolist() == [0] * 8
    assert part.terms(part.represent(views()))["clusters"].isfinite()


@pytest.mark.parametrize("name", ["ccfc", "ccfc-clusters"])
def test_the_frozen_copy_is_what_was_received_and_stays_so(name: str) -> None:
    part = objective(name, clusters=3).train()
    with torch.no_grad():
        for p in part.parameters():
            p.add_(0.1)
    parts = {
        "encoder": part.encoder,
        "projector.0": part.projector,
        "projector.1": part.predictor,
    }
    shared = {f"{m}.{k}": v.clone() for m in parts for k, v in parts[m].state_dict().items()}
    part.begin_round(local_round(torch.eye(8), None))
    optimiser = torch.optim.SGD([p for p in part.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        part.train()
        sum(part.terms(part.represent(views())).values()).backward()
        optimiser.step()
    frozen = part.global_model.state_dict()
    assert frozen.keys() == shared.keys()
    assert all(torch.equal(frozen[key], shared[key]) for key in frozen)
    assert all(p.grad is None for p in part.global_model.parameters())
    moved = part.encoder.state_dict()
    assert not all(torch.equal(moved[key], shared[f"encoder.{key}"]) for key in moved)
    assert set(part.received()) == {"global_model"} and part.local() == {}


def test_the_pull_towards_the_received_model_is_0_at_the_received_model() -> None:
    part = objective("ccfc", clusters=3, parameters="model-weight=1.0")
    part.begin_round(local_round(torch.eye(8), None))
    part.eval()
    assert part.terms(part.represent(views()))["model"].item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for p in part.predictor[-1].parameters():
            p.neg_()
    assert part.terms(part.represent(views()))["model"].item() == pytest.approx(2, abs=1e-5)


def slow_correlation(z: Tensor) -> Tensor:
    """Pearson's r of each pair of dimensions, squared, over the number of pairs."""
    d = z.shape[1]
    total = torch.zeros(())
    for i in range(d):
        for j in range(d):
            x, y = z[:, i] - z[:, i].mean(), z[:, j] - z[:, j].mean()
            r = (x * y).sum() / ((x**2).sum().sqrt() * (y**2).sum().sqrt())
            total = total + r**2
    return total / d**2


def test_correlation_is_the_mean_square_of_pearsons_r() -> None:
    z = draw(7, 4)
    assert_equal_with_gradients(correlation(z), slow_correlation(z), (z,))


def test_correlation_is_1_when_all_dimensions_repeat_each_other_and_1_over_d_when_none_does() -> (
    None
):
    column = torch.arange(6.0)[:, None]
    assert correlation(torch.cat([column, -2 * column, column + 7], 1)).item() == pytest.approx(1)
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert correlation(signs).item() == pytest.approx(1 / 2)


def test_a_dimension_without_variance_gives_no_nan() -> None:
    z = torch.cat([torch.randn(5, 2), torch.ones(5, 1)], dim=1).requires_grad_()
    loss = correlation(z)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.isfinite() and gradient.isfinite().all()


def test_autocast_does_not_take_digits() -> None:
    p, z = draw(2, 6, 5).detach()
    labels = torch.tensor([0, 1, 2] * 2)
    exact = cluster_attraction(p, z, labels, 3), correlation(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = cluster_attraction(p, z, labels, 3), correlation(z)
    assert exact == mixed


@pytest.mark.parametrize("is_global", [True, False])
def test_autocast_does_not_change_a_pseudo_label(is_global: bool) -> None:
    """A round begins under mixed precision, in which a cosine has two or three digits."""
    points = torch.nn.functional.normalize(draw(300, 64).detach(), dim=1)
    centroids = points[:10] if is_global else None
    exact = pseudo_labels(local_round(points, centroids), 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = pseudo_labels(local_round(points, centroids), 10)
    assert torch.equal(exact, mixed)


def test_decorrelated_adds_its_weighted_term_and_shares_what_is_inside() -> None:
    plain = objective("ccfc", clusters=3)
    around = objective("decorrelated", clusters=3, parameters="first=ccfc decorrelation-weight=0.3")
    around.inner.load_state_dict(plain.state_dict())
    for part in (plain, around):
        part.begin_round(local_round(torch.eye(8), None))
    seen = around.represent(views())
    terms, base = around.terms(seen), plain.terms(plain.represent(views()))
    for name, term in base.items():
        torch.testing.assert_close(terms[name], term)
    z = torch.cat([seen.z_a, seen.z_b])
    corrected = torch.corrcoef(z.T).square().mean()
    torch.testing.assert_close(terms["decorrelation"], 0.3 * corrected, atol=1e-5, rtol=1e-4)
    assert around.shared().keys() == plain.shared().keys()
    assert around.received().keys() == plain.received().keys()
    assert 0 < terms["decorrelation"].item() < 0.3 and not math.isnan(terms["model"].item())


@pytest.mark.parametrize("recipe", ["ccfc", "ccfc++"])
def test_the_recipe_runs_both_stages(recipe: str, tmp_path: Path) -> None:
    small = {"dataset": "digits", "images": 120, "sites": 2, "local-epochs": 1, "batch-size": 32}
    plan = recipes.load(recipe).plan({**small, "rounds": "1,2", "encoder": "small-convnet"})
    simulate(plan, tmp_path / "run")
    record = read_run(tmp_path / "run")
    losses = [event.loss for event in record.rounds]
    extra = {"loss", "model"} | ({"decorrelation"} if recipe == "ccfc++" else set())
    assert losses[0].keys() == {"prediction", *extra}
    assert losses[1].keys() == losses[2].keys() == {"clusters", *extra}
    assert [stage.stage_name for stage in record.stages] == ["representation", "clustering"]
    figures = record.stages[-1].figures
    assert figures["effective_rank"] > 1 and figures["nmi"] > 0.1
