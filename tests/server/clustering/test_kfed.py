"""k-FED's global clusters: farthest first, then k-means, with lasting identities."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.statistics.kfed import k_fed_clusters
from common.clustering.centroids import Centroids, unit
from common.clustering.kmeans import kmeans
from common.utils.errors import UserError
from common.utils.seeds import generator
from server.clustering.kfed import farthest_first, merge_k_fed
from server.clustering.merging import Merged

K, D = 6, 10
Local = list[tuple[str, Centroids]]


pytestmark = pytest.mark.usefixtures("one_thread")


def few_each(seed: int, sites: int = 8, each: int = 2, noise: float = 0.03) -> Local:
    """Each site has `each` of the first K axes, with noise; all axes occur."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(sites):
        own = (i * each + np.arange(each)) % K
        points = np.eye(D)[own] + noise * rng.normal(size=(each, D))
        found.append((f"site-{i}", Centroids(unit(points), rng.integers(5, 100, each))))
    return found


def same(one: Merged, two: Merged) -> bool:
    return (
        one.centroids.points.tobytes() == two.centroids.points.tobytes()
        and one.centroids.counts.tobytes() == two.centroids.counts.tobytes()
        and all(np.array_equal(one.members[site], two.members[site]) for site in one.members)
    )


@given(st.integers(0, 1000))
def test_sites_with_few_clusters_each_find_all_of_them_in_one_go(seed: int) -> None:
    """What the paper is about: no site knows more than two clusters, together they know all."""
    merged = merge_k_fed(few_each(seed), None, K, 0)
    axis = merged.centroids.points.argmax(axis=1)
    assert sorted(axis.tolist()) == list(range(K))
    assert merged.centroids.points.max(axis=1).min() > 0.98
    for site, centroids in few_each(seed):
        own = centroids.points.argmax(axis=1)
        assert axis[merged.members[site]].tolist() == own.tolist()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(8)), st.booleans())
def test_the_order_of_the_sites_changes_no_bit(
    seed: int, order: list[int], with_previous: bool
) -> None:
    local = few_each(seed, noise=0.5)
    previous = merge_k_fed(few_each(seed + 1), None, K, 0).centroids if with_previous else None
    merged = merge_k_fed(local, previous, K, 0)
    assert same(merged, merge_k_fed([local[i] for i in order], previous, K, 0))


@given(st.integers(0, 1000), st.integers(2, 9))
def test_the_next_seed_is_the_one_farthest_from_all_chosen(seed: int, k: int) -> None:
    points = unit(np.random.default_rng(seed).normal(size=(20, D)))
    chosen = farthest_first(points, 3, k).tolist()
    assert chosen[0] == 3 and len(set(chosen)) == k
    for number in range(1, k):
        gaps = [min(1 - float(p @ points[c]) for c in chosen[:number]) for p in points]
        assert gaps[chosen[number]] == pytest.approx(max(gaps), abs=1e-6)


@given(st.integers(0, 1000))
def test_one_site_gets_its_own_centroids_back(seed: int) -> None:
    """The server's step has nothing left to do, whatever the centroids."""
    rng = np.random.default_rng(seed)
    own = Centroids(unit(rng.normal(size=(K, D))), rng.integers(5, 100, K))
    merged = merge_k_fed([("site-0", own)], None, K, 0)
    place = merged.members["site-0"]
    assert sorted(place.tolist()) == list(range(K))
    np.testing.assert_allclose(merged.centroids.points[place], own.points, atol=1e-6)
    assert merged.centroids.counts[place].tolist() == own.counts.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_with_one_site_it_is_k_means_of_the_sites_points(seed: int) -> None:
    """On clusters that k-means finds whatever its start: else two runs of k-means differ, too."""
    rng = np.random.default_rng(seed)
    axes = np.eye(D)[np.arange(K).repeat(40)]
    points = torch.from_numpy(unit(axes + 0.15 * rng.normal(size=axes.shape)))
    found = k_fed_clusters(points, K, 1, generator("cpu", seed, "k-fed"))
    merged = merge_k_fed([("site-0", found.centroids)], None, K, 0).centroids
    pooled = kmeans(points, K, spherical=True, generator=generator("cpu", seed, "k-means"))
    match = (torch.from_numpy(merged.points) @ pooled.centroids.T).argmax(dim=1)
    assert sorted(match.tolist()) == list(range(K))
    np.testing.assert_allclose(merged.points, unit(pooled.centroids[match].numpy()), atol=1e-5)
    assert merged.counts.tolist() == pooled.counts[match].tolist()


def test_seeding_ends_where_all_centres_are_equal_to_a_chosen_one() -> None:
    points = np.eye(3, D, dtype=np.float32)[[0, 1, 0, 2, 1]]
    assert sorted(farthest_first(points, 0, 5).tolist()) == [0, 1, 3]


def test_a_site_with_as_many_clusters_as_the_federation_does_not_take_all_seeds() -> None:
    """Ten local clusters of one class, in the paper's way all of M."""
    rng = np.random.default_rng(0)
    crowd = unit(np.eye(D)[[0] * K] + 0.03 * rng.normal(size=(K, D)))
    others = [
        (f"b-{i}", Centroids(np.eye(D, dtype=np.float32)[[i]], np.array([20]))) for i in range(1, K)
    ]
    merged = merge_k_fed([("a", Centroids(crowd, np.full(K, 30))), *others], None, K, 0)
    assert merged.centroids.counts.tolist() == [30 * K, *[20] * (K - 1)]
    assert len(set(merged.members["a"].tolist())) == 1


def test_counts_weigh_the_centre_and_add_up() -> None:
    x, y = np.eye(D, dtype=np.float32)[:2]
    local = [("a", Centroids(x[None], np.array([900]))), ("b", Centroids(y[None], np.array([100])))]
    merged = merge_k_fed(local, None, 1, 0)
    assert merged.centroids.points[0, :2] == pytest.approx(np.array([9, 1]) / 82**0.5, abs=1e-5)
    assert merged.centroids.counts.tolist() == [1000]


@given(st.integers(0, 1000), st.permutations(range(2)))
def test_clusters_keep_their_identity(seed: int, order: list[int]) -> None:
    local = few_each(seed)
    previous = merge_k_fed(local, None, K, 0).centroids
    relabelled = [(s, Centroids(c.points[order], c.counts[order])) for s, c in local]
    again = merge_k_fed(relabelled, previous, K, 1)
    assert np.array_equal(again.centroids.counts, previous.counts)
    np.testing.assert_allclose(again.centroids.points, previous.points, atol=1e-5)


def test_fewer_distinct_centres_than_clusters_leave_clusters_without_members() -> None:
    points = np.eye(2, D, dtype=np.float32)
    local = [("a", Centroids(points, np.array([1, 9]))), ("b", Centroids(points, np.array([1, 0])))]
    merged = merge_k_fed(local, None, 4, 0)
    assert merged.centroids.counts.tolist() == [9, 2, 0, 0]
    assert merged.members["b"].tolist() == [1, 0]
    previous = Centroids(np.eye(4, D, dtype=np.float32)[::-1].copy(), np.ones(4, np.int64))
    assert merge_k_fed(local, previous, 4, 0).centroids.counts.tolist() == [0, 0, 9, 2]


def test_without_a_local_centre_the_previous_ones_stay() -> None:
    nothing = Centroids(np.zeros((0, D), np.float32), np.zeros(0, np.int64))
    previous = Centroids(np.eye(K, D, dtype=np.float32), np.full(K, 7))
    merged = merge_k_fed([("a", nothing)], previous, K, 0)
    assert np.array_equal(merged.centroids.points, previous.points)
    with pytest.raises(UserError, match="no site sent a centroid"):
        merge_k_fed([("a", nothing)], None, K, 0)
