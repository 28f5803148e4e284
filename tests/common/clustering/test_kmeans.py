"""k-means is as good as scikit-learn's, knows weights, and never leaves a cluster empty."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as Reference
from sklearn.datasets import load_digits, make_blobs
from torch import Tensor

from common.clustering import kmeans as module
from common.clustering.kmeans import kmeans
from common.utils.seeds import generator

pytestmark = pytest.mark.usefixtures("one_thread")


def chance(seed: int = 0) -> torch.Generator:
    return generator("cpu", seed, "test")


def blobs(seed: int = 0, n: int = 600, k: int = 6) -> Tensor:
    points, _ = make_blobs(n, n_features=5, centers=k, cluster_std=1.0, random_state=seed)
    return torch.from_numpy(points).float()


def digits() -> Tensor:
    return torch.from_numpy(load_digits().data).float()


@pytest.mark.parametrize("seed", range(3))
def test_inertia_on_blobs_is_scikit_learns(seed: int) -> None:
    points = blobs(seed)
    best = Reference(6, n_init=20, random_state=0).fit(points.numpy()).inertia_
    assert kmeans(points, 6, generator=chance(seed)).inertia == pytest.approx(best, rel=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_inertia_on_real_digits_is_scikit_learns(seed: int) -> None:
    best = Reference(10, n_init=20, random_state=0).fit(digits().numpy()).inertia_
    assert kmeans(digits(), 10, generator=chance(seed)).inertia == pytest.approx(best, rel=0.01)


def test_a_mean_far_from_the_origin_costs_no_precision() -> None:
    near = kmeans(blobs(), 6, generator=chance())
    far = kmeans(blobs() + 2000, 6, generator=chance())
    assert far.inertia == pytest.approx(near.inertia, rel=0.01)


def test_what_is_returned_fits_together() -> None:
    points = blobs()
    found = kmeans(points, 6, generator=chance())
    distances = torch.cdist(points, found.centroids)
    assert torch.equal(found.labels, distances.argmin(dim=1))
    assert found.inertia == pytest.approx(float(distances.min(dim=1).values.square().sum()), 1e-4)
    assert torch.equal(found.counts, torch.bincount(found.labels, minlength=6))
    for cluster, centroid in enumerate(found.centroids):
        assert torch.allclose(points[found.labels == cluster].mean(0), centroid, atol=1e-4)


def test_the_generator_decides_every_bit() -> None:
    one, two = (kmeans(digits(), 10, generator=chance(3)) for _ in range(2))
    assert torch.equal(one.centroids, two.centroids) and torch.equal(one.labels, two.labels)


def test_the_size_of_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kmeans(blobs(), 6, generator=chance())
    monkeypatch.setattr(module, "CHUNK", 7)
    parts = kmeans(blobs(), 6, generator=chance())
    assert torch.equal(whole.labels, parts.labels)
    assert torch.allclose(whole.centroids, parts.centroids, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=40, max_size=40).filter(lambda w: sum(w) > 0))
def test_a_weight_is_a_number_of_equal_points(weights: list[int]) -> None:
    points = blobs(n=40, k=3)
    init = points[:3]
    weight = torch.tensor(weights)
    once = kmeans(points, 3, weights=weight.float(), generator=chance(), init=init)
    repeated = kmeans(points.repeat_interleave(weight, 0), 3, generator=chance(), init=init)
    assert once.inertia == pytest.approx(repeated.inertia, rel=1e-3, abs=1e-3)
    assert torch.allclose(once.centroids, repeated.centroids, atol=1e-3)
    assert torch.equal(once.labels.repeat_interleave(weight), repeated.labels)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(30)), st.booleans())
def test_the_order_of_the_points_does_not_matter(order: list[int], spherical: bool) -> None:
    points, weights = blobs(n=30, k=3), torch.arange(1.0, 31)
    first = kmeans(
        points, 3, weights=weights, generator=chance(), init=points[:3], spherical=spherical
    )
    second = kmeans(
        points[order],
        3,
        weights=weights[order],
        generator=chance(),
        init=points[:3],
        spherical=spherical,
    )
    assert torch.equal(first.labels[order], second.labels)
    assert torch.allclose(first.centroids, second.centroids, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=12),
    st.integers(1, 8),
    st.booleans(),
    st.integers(0, 5),
)
def test_no_cluster_is_empty_and_there_are_no_more_than_distinct_points(
    rows: list[tuple[int, int]], k: int, spherical: bool, seed: int
) -> None:
    points = torch.tensor(rows, dtype=torch.float32).repeat(3, 1)
    seen = F.normalize(points, dim=1) if spherical else points
    distinct = len(np.unique(seen.numpy().round(5), axis=0))
    found = kmeans(points, k, generator=chance(seed), spherical=spherical)
    assert len(found.centroids) == min(k, distinct)
    assert int(found.counts.min()) > 0
    assert int(found.counts.sum()) == len(points)
    if distinct <= k:
        assert found.inertia == pytest.approx(0, abs=1e-4)


def test_a_start_with_empty_clusters_fills_them() -> None:
    points = blobs()
    init = torch.cat([points[:1], torch.full((5, 5), 1e3)])
    found = kmeans(points, 6, generator=chance(), init=init)
    assert len(found.counts) == 6 and int(found.counts.min()) > 0
    for cluster, centroid in enumerate(found.centroids):  # filled early, and then improved
        assert torch.allclose(points[found.labels == cluster].mean(0), centroid, atol=1e-3)
    worst = kmeans(points, 1, generator=chance()).inertia
    assert found.inertia < worst / 2  # one cluster alone would stay at `worst`


def test_points_of_weight_0_are_labelled_and_do_not_pull() -> None:
    points = torch.tensor([[0.0], [1.0], [10.0], [11.0], [1000.0]])
    weights = torch.tensor([1.0, 1, 1, 1, 0])
    found = kmeans(points, 2, weights=weights, generator=chance())
    assert sorted(found.centroids.flatten().tolist()) == pytest.approx([0.5, 10.5])
    assert found.labels[4] == found.labels[3] != found.labels[0]


def test_spherical_clusters_by_direction_alone() -> None:
    axes = torch.eye(4).repeat_interleave(25, dim=0)
    noise = 0.05 * torch.randn(100, 4, generator=chance(1))
    lengths = 10 ** torch.empty(100, 1).uniform_(-2, 2, generator=chance(2))
    points = (axes + noise) * lengths
    found = kmeans(points, 4, generator=chance(), spherical=True)
    assert torch.allclose(found.centroids.norm(dim=1), torch.ones(4), atol=1e-6)
    assert found.counts.tolist() == [25] * 4
    cosines = (F.normalize(points, dim=1) @ found.centroids.T).max(dim=1).values
    assert found.inertia == pytest.approx(float((2 - 2 * cosines).sum()), rel=1e-3)


@pytest.mark.parametrize(
    ("points", "k"),
    [
        (torch.zeros(0, 3), 2),
        (torch.zeros(4), 2),
        (torch.zeros(4, 2), 0),
        (torch.tensor([[float("nan")]]), 1),
    ],
)
def test_points_that_cannot_be_clustered_are_an_error(points: Tensor, k: int) -> None:
    with pytest.raises(ValueError, match="k-means"):
        kmeans(points, k, generator=chance())
