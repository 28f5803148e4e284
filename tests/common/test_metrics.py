"""The scores equal scikit-learn's on pooled labels, also where the tables come from many sites."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import Ridge

from common import metrics

K, C = 5, 4  # some clusters and classes stay empty: hypothesis picks which
pairs = st.lists(st.tuples(st.integers(0, K - 1), st.integers(0, C - 1)), min_size=1, max_size=60)
CLOSE = 1e-9


def split(pairs: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    clusters, labels = np.array(pairs, np.int64).T
    return clusters, labels


@given(pairs)
def test_nmi_ari_and_purity_are_those_of_the_labels(pairs: list[tuple[int, int]]) -> None:
    clusters, labels = split(pairs)
    scores = metrics.clustering_scores(metrics.contingency(clusters, labels, K, C))
    nmi = sklearn.metrics.normalized_mutual_info_score(labels, clusters)
    assert scores["nmi"] == pytest.approx(nmi, abs=CLOSE)
    assert scores["ari"] == pytest.approx(
        sklearn.metrics.adjusted_rand_score(labels, clusters), abs=CLOSE
    )
    largest = sum(np.bincount(labels[clusters == k]).max() for k in np.unique(clusters))
    assert scores["purity"] == pytest.approx(largest / len(labels), abs=CLOSE)


@given(pairs)
def test_accuracy_is_that_of_the_best_one_to_one_naming(pairs: list[tuple[int, int]]) -> None:
    clusters, labels = split(pairs)
    table = sklearn.metrics.cluster.contingency_matrix(labels, clusters)
    rows, columns = linear_sum_assignment(-table)
    expected = table[rows, columns].sum() / len(labels)
    got = metrics.accuracy(metrics.contingency(clusters, labels, K, C))
    assert got == pytest.approx(expected, abs=CLOSE)


@given(st.lists(pairs, min_size=1, max_size=4))
def test_tables_of_sites_add_up_to_the_pooled_one(sites: list[list[tuple[int, int]]]) -> None:
    tables = [metrics.contingency(*split(site), K, C) for site in sites]
    pooled = metrics.contingency(*split([pair for site in sites for pair in site]), K, C)
    assert np.array_equal(sum(tables), pooled)


@given(pairs, st.permutations(range(K)), st.permutations(range(C)))
def test_scores_do_not_know_the_names_of_clusters_and_classes(
    pairs: list[tuple[int, int]], rows: list[int], columns: list[int]
) -> None:
    table = metrics.contingency(*split(pairs), K, C)
    renamed = metrics.clustering_scores(table[rows][:, columns])
    assert renamed == pytest.approx(metrics.clustering_scores(table), abs=CLOSE)


@pytest.mark.parametrize(
    ("table", "acc", "nmi", "ari"),
    [
        pytest.param([[9]], 1, 1, 1, id="one cluster and one class"),
        pytest.param([[5, 5]], 0.5, 0, 0, id="all classes in one cluster"),
        pytest.param([[5], [5]], 0.5, 0, 0, id="one class in two clusters"),
        pytest.param([[0, 7], [0, 0], [7, 0]], 1, 1, 1, id="an empty cluster between"),
        pytest.param([[1]], 1, 1, 1, id="a single image"),
    ],
)
def test_degenerate_tables(table: list[list[int]], acc: float, nmi: float, ari: float) -> None:
    scores = metrics.clustering_scores(np.array(table, np.int64))
    assert (scores["acc"], scores["nmi"], scores["ari"]) == pytest.approx((acc, nmi, ari))


def test_counts_of_a_billion_images_do_not_overflow() -> None:
    table = np.array([[3 * 10**9, 1], [1, 3 * 10**9]], np.int64)
    assert metrics.ari(table) == pytest.approx(1)


def test_a_table_without_images_and_values_out_of_range_are_errors() -> None:
    with pytest.raises(ValueError, match="no images"):
        metrics.clustering_scores(np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match=r"clusters from 0 to 2, expected 0\.\.1"):
        metrics.contingency(np.array([0, 2]), np.array([0, 0]), 2, 1)


@pytest.mark.parametrize(
    ("sizes", "entropy"), [([5, 5, 5], 1), ([9, 0, 0], 0), ([4, 4, 0, 0], 0.5), ([7], 1)]
)
def test_entropy_of_sizes_is_1_when_equal_and_0_in_one(sizes: list[int], entropy: float) -> None:
    assert metrics.assignment_entropy(np.array(sizes)) == pytest.approx(entropy)


def test_the_effective_rank_counts_the_equally_strong_directions() -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    strengths = np.array([3.0, 3, 3, 3, 0, 0])
    assert metrics.effective_rank(rotation @ np.diag(strengths) @ rotation.T) == pytest.approx(4)
    assert metrics.effective_rank(np.zeros((3, 3))) == 0
    uneven = metrics.effective_rank(np.diag([1.0, 0.1, 0.1]))
    assert 1 < uneven < 3


def test_embeddings_that_fill_the_sphere_are_healthy_and_a_point_is_collapsed() -> None:
    rng = np.random.default_rng(0)
    sphere = rng.normal(size=(4000, 64))
    point = np.ones(64) + 0.01 * rng.normal(size=(4000, 64))
    for points, health in ((sphere, 1.0), (point, 0.01)):
        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
        value = metrics.healthy_std(unit.std(axis=0))
        assert value == pytest.approx(health, rel=0.02)
        assert metrics.is_collapsed(value) == (health < 0.5)
    assert metrics.is_collapsed(float("nan"))


def test_the_probe_from_sums_is_ridge_regression_on_the_pooled_images() -> None:
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(200, 7)) + 3, rng.integers(0, 3, 200)
    h, y = np.c_[points, np.ones(200)], np.eye(3)[labels]
    sites = [slice(0, 20), slice(20, 200)]
    gram = np.sum([h[s].T @ h[s] for s in sites], axis=0)
    cross = np.sum([h[s].T @ y[s] for s in sites], axis=0)
    strength = 0.3 * np.mean(np.sum(points**2, axis=0))
    pooled = Ridge(alpha=strength).fit(points, y)
    got = metrics.solve_probe(gram, cross, 0.3)
    assert np.allclose(got[:-1], pooled.coef_.T, atol=CLOSE)
    assert np.allclose(got[-1], pooled.intercept_, atol=CLOSE)


def test_the_probe_survives_sums_that_are_singular() -> None:
    assert not metrics.solve_probe(np.zeros((4, 4)), np.zeros((4, 2)), 0.1).any()
    h = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 1.0]])  # two equal columns, and no ridge
    solved = metrics.solve_probe(h.T @ h, h.T @ np.eye(2), 0.0)
    assert np.allclose(h @ solved, np.eye(2), atol=1e-6)
