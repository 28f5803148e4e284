"""Merged centroids do not know the order of the sites, and clusters keep their identity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clustering.centroids import Centroids, unit
from common.utils.errors import UserError
from server.clustering.rules import Merged, merge_centroids

K, D = 4, 8
Local = list[tuple[str, Centroids]]


pytestmark = pytest.mark.usefixtures("one_thread")


def around(seed: int, sites: int = 5, noise: float = 0.1) -> Local:
    """Each site has each of the first K axes, with noise, in its own order, with its own counts;
    one cluster of each site is empty."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(sites):
        points = np.eye(D)[rng.permutation(K)] + noise * rng.normal(size=(K, D))
        counts = rng.integers(1, 100, K)
        counts[rng.integers(K)] = 0
        found.append((f"site-{i}", Centroids(unit(points), counts)))
    return found


def same(one: Merged, two: Merged) -> bool:
    return (
        one.centroids.points.tobytes() == two.centroids.points.tobytes()
        and one.centroids.counts.tobytes() == two.centroids.counts.tobytes()
        and one.members.keys() == two.members.keys()
        and all(np.array_equal(one.members[site], two.members[site]) for site in one.members)
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(5)), st.booleans())
def test_the_order_of_the_sites_changes_no_bit(
    seed: int, order: list[int], with_previous: bool
) -> None:
    local = around(seed)
    previous = around(seed + 1)[0][1] if with_previous else None
    merged = merge_centroids(local, previous, K, seed)
    assert same(merged, merge_centroids([local[i] for i in order], previous, K, seed))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_counts_and_members_add_up_and_centres_have_unit_length(seed: int) -> None:
    local = around(seed)
    merged = merge_centroids(local, None, K, seed)
    sums = np.zeros(K, np.int64)
    for site, centroids in local:
        np.add.at(sums, merged.members[site], centroids.counts)
    assert np.array_equal(sums, merged.centroids.counts)
    assert np.allclose(np.linalg.norm(merged.centroids.points, axis=1), 1, atol=1e-6)
    assert merged.centroids.points.dtype == np.float32
    assert sorted(merged.centroids.counts, reverse=True) == list(merged.centroids.counts)


def test_the_true_directions_are_found() -> None:
    merged = merge_centroids(around(0), None, K, 0)
    nearest = merged.centroids.points @ np.eye(D)[:K].T
    assert sorted(nearest.argmax(axis=1)) == list(range(K))
    assert nearest.max(axis=1).min() > 0.95


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(K)))
def test_identities_survive_a_relabelling_of_the_sites_own_clusters(
    seed: int, order: list[int]
) -> None:
    local = around(seed)
    previous = merge_centroids(local, None, K, seed).centroids
    relabelled = [(s, Centroids(c.points[order], c.counts[order])) for s, c in local]
    again = merge_centroids(relabelled, previous, K, seed + 1)
    assert np.array_equal(again.centroids.counts, previous.counts)
    assert np.allclose(again.centroids.points, previous.points, atol=1e-5)


def test_doubling_all_counts_doubles_the_counts_and_nothing_else() -> None:
    local = around(3)
    doubled = [(s, Centroids(c.points, 2 * c.counts)) for s, c in local]
    one, two = (merge_centroids(given, None, K, 3) for given in (local, doubled))
    assert np.array_equal(one.centroids.points, two.centroids.points)
    assert np.array_equal(2 * one.centroids.counts, two.centroids.counts)


def test_a_heavy_centroid_pulls_harder() -> None:
    x, y = np.eye(D, dtype=np.float32)[:2]
    local = [("a", Centroids(x[None], np.array([900]))), ("b", Centroids(y[None], np.array([100])))]
    centre = merge_centroids(local, None, 1, 0).centroids.points[0]
    assert centre[:2] == pytest.approx(np.array([9, 1]) / np.sqrt(82), abs=1e-5)


def test_one_site_with_everything_gets_its_own_centroids_back() -> None:
    points = unit(np.random.default_rng(0).normal(size=(K, D)))
    own = Centroids(points, np.array([40, 30, 20, 10]))
    merged = merge_centroids([("only", own)], None, K, 0)
    assert np.allclose(merged.centroids.points, points, atol=1e-6)
    assert np.array_equal(merged.centroids.counts, own.counts)
    assert merged.members["only"].tolist() == [0, 1, 2, 3]


def test_a_cluster_without_members_keeps_its_previous_centre_with_count_0() -> None:
    previous = Centroids(np.eye(K, D, dtype=np.float32), np.full(K, 7))
    near = unit(np.eye(K, D)[[2, 0]] + 0.1)
    merged = merge_centroids([("a", Centroids(near, np.array([5, 6])))], previous, K, 0)
    assert merged.centroids.counts.tolist() == [6, 0, 5, 0]
    assert merged.members["a"].tolist() == [2, 0]
    assert np.array_equal(merged.centroids.points[[1, 3]], previous.points[[1, 3]])


def test_without_previous_missing_clusters_repeat_others_with_count_0() -> None:
    points = np.eye(2, D, dtype=np.float32)
    merged = merge_centroids([("a", Centroids(points, np.array([1, 9])))], None, K, 0)
    assert merged.centroids.counts.tolist() == [9, 1, 0, 0]
    assert np.array_equal(merged.centroids.points[:2], merged.centroids.points[2:])
    assert merged.members["a"].tolist() == [1, 0]


def test_an_empty_local_cluster_moves_nothing_and_has_a_valid_place() -> None:
    local = around(5)
    stray = -unit(np.ones((1, D)))
    site, own = local[0]
    more = Centroids(np.concatenate([own.points, stray]), np.append(own.counts, 0))
    with_stray = merge_centroids([(site, more), *local[1:]], None, K, 5)
    without = merge_centroids(local, None, K, 5)
    assert np.array_equal(with_stray.centroids.points, without.centroids.points)
    assert 0 <= with_stray.members[site][-1] < K


def test_sites_that_send_nothing_leave_the_previous_centres() -> None:
    nothing = Centroids(np.zeros((0, D), np.float32), np.zeros(0, np.int64))
    previous = Centroids(np.eye(K, D, dtype=np.float32), np.full(K, 7))
    merged = merge_centroids([("a", nothing)], previous, K, 0)
    assert np.array_equal(merged.centroids.points, previous.points)
    assert not merged.centroids.counts.any()
    with pytest.raises(UserError, match="no site sent a centroid"):
        merge_centroids([("a", nothing)], None, K, 0)


def test_embeddings_of_another_width_start_identities_anew() -> None:
    previous = Centroids(np.eye(K, D + 1, dtype=np.float32), np.full(K, 7))
    assert same(merge_centroids(around(1), previous, K, 1), merge_centroids(around(1), None, K, 1))


def test_mistakes_of_the_server_are_errors() -> None:
    local = around(0)
    with pytest.raises(ValueError, match="two sets"):
        merge_centroids([*local, local[0]], None, K, 0)
    with pytest.raises(ValueError, match="4 previous centroids for 3"):
        merge_centroids(local, local[0][1], 3, 0)
