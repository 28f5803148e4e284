"""Centroids, moments and Lloyd's steps that f Byzantine sites cannot move at will."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clustering.centroids import Centroids, unit
from common.config.recipes import load
from common.protocol.layout import Layout
from common.protocol.messages import Instruction, Reply
from common.utils.errors import UserError
from server.aggregation import Suspects
from server.aggregation.collected import Collected
from server.aggregation.robust import Defence, central, set_distance, voted_sums
from server.clustering import lloyd
from server.clustering.rules import merge_centroids
from server.conversation.inquiry import Inquiry, Participants
from server.conversation.registration import SiteInfo
from server.conversation.validation import Expected
from server.measurements import Measurements
from tests.server.aggregation.slow_rules import SENT

pytestmark = pytest.mark.usefixtures("one_thread")


# Centroids.

K, D = 4, 8


def around(seed: int, sites: int = 10, noise: float = 0.05) -> list[tuple[str, Centroids]]:
    """Each site has each of the first K axes, with noise, in its own order, with its own counts."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(sites):
        points = np.eye(D)[rng.permutation(K)] + noise * rng.normal(size=(K, D))
        found.append((f"site-{i}", Centroids(unit(points), rng.integers(10, 40, K))))
    return found


def with_false(local, false: Centroids, f: int = 3) -> list[tuple[str, Centroids]]:
    return [*local[: len(local) - f], *((site, false) for site, _ in local[len(local) - f :])]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    weight=st.sampled_from([1, 20, 10**9]),
    order=st.permutations(range(10)),
)
def test_byzantine_centroids_have_no_say(seed: int, weight: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    false = Centroids(unit(np.eye(D)[4:] + 0.01 * rng.normal(size=(K, D))), np.full(K, weight))
    local = with_false(around(seed), false)
    believed = central(local, 3)
    assert {s for s, c in believed if c.counts.any()} == {f"site-{i}" for i in range(7)}
    merged = merge_centroids(believed, None, K, seed)
    cosines = merged.centroids.points @ np.eye(D)[:K].T
    assert sorted(cosines.argmax(axis=1)) == list(range(K)) and cosines.max(axis=1).min() > 0.95
    again = merge_centroids(central([local[i] for i in order], 3), None, K, seed)
    assert merged.centroids.points.tobytes() == again.centroids.points.tobytes()


def test_without_the_defence_they_have() -> None:
    """Or the test above would show nothing."""
    false = Centroids(unit(np.eye(D)[4:]), np.full(K, 1000))
    merged = merge_centroids(with_false(around(0), false), None, K, 0)
    assert (merged.centroids.points @ np.eye(D)[:K].T).max(axis=1).min() < 0.5


def test_a_number_buys_no_weight() -> None:
    local = around(1)
    loud = [(s, Centroids(c.points, c.counts * (10**6 if s == "site-0" else 1))) for s, c in local]
    totals = {s: int(c.counts.sum()) for s, c in central(loud, 3)}
    honest = {s: int(c.counts.sum()) for s, c in local}
    assert totals["site-0"] <= max(honest.values()) + K
    assert all(
        totals[s] in (0, honest[s]) or s == "site-0" or totals[s] < honest[s] for s in totals
    )


def test_all_keep_their_points_and_none_of_the_empty_ones_gets_a_count() -> None:
    local = around(2)
    site, own = local[0]
    local[0] = (site, Centroids(own.points, own.counts * np.array([0, 1, 1, 1])))
    for (_, before), (_, after) in zip(sorted(local), central(local, 3), strict=True):
        assert np.array_equal(before.points, after.points)
        assert not after.counts[before.counts == 0].any()


def test_set_distance_does_not_know_how_a_site_numbers_its_clusters() -> None:
    (_, a), (_, b) = around(3, sites=2)
    order = [2, 0, 3, 1]
    assert set_distance(a, b) == pytest.approx(
        set_distance(Centroids(a.points[order], a.counts[order]), b)
    )
    assert set_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert set_distance(a, b) == pytest.approx(set_distance(b, a))


def test_robust_centroids_of_too_few_sites_are_an_error() -> None:
    defence = Defence(Suspects(3), centroids=True)
    with pytest.raises(UserError, match=r"robust centroids: 8 .* takes 9"):
        defence.believed(around(0, sites=8))
    local = around(0, sites=8)
    assert Defence(Suspects(3)).believed(local) is local  # undefended: as they are


# Lloyd's steps and moments.


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1.0, 1e6]))
def test_a_voted_centroid_is_within_the_honest_sites_means(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 50, (10, K))
    means = rng.normal(size=(10, K, D))
    means[7:] = scale * rng.normal(size=(3, K, D))
    voted = voted_sums(means * counts[:, :, None], counts, 3) / counts.sum(axis=0)[:, None]
    assert (voted >= means[:7].min(axis=0) - 1e-9).all()
    assert (voted <= means[:7].max(axis=0) + 1e-9).all()


def test_a_cluster_that_few_sites_have_stays_where_it_is() -> None:
    counts = np.ones((10, 2), np.int64)
    counts[6:, 1] = 0  # six voters, of whom three may be Byzantine
    voted = voted_sums(np.ones((10, 2, D)), counts, 3)
    assert (voted[0] == 10).all() and not voted[1].any()


def test_alike_sites_vote_for_their_sum() -> None:
    rng = np.random.default_rng(0)
    one, counts = rng.normal(size=(K, D)), np.full((10, K), 6)
    sums = np.repeat(one[None] * 6, 10, axis=0)
    assert np.allclose(voted_sums(sums, counts, 3), sums.sum(axis=0))


def moments_of(seed: int, sites: int = 10, images: int = 200) -> list[tuple[int, np.ndarray]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(sites):
        h = unit(rng.normal(size=(images, D)) * np.arange(1, D + 1)).astype(np.float64)
        h = np.pad(h, ((0, 0), (0, 1)), constant_values=1.0)
        found.append((images, h.T @ h))
    return found


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "geometric-median", "multi-krum"])
def test_byzantine_moments_are_kept_out(name: str) -> None:
    honest = moments_of(0)
    truth = sum(gram for _, gram in honest)
    rng = np.random.default_rng(1)
    direction = unit(rng.normal(size=(1, D + 1)))[0].astype(np.float64)
    false = [(200, 200 * np.outer(direction, direction))] * 3
    defence = Defence(Suspects(3), name)
    total = defence.total([*honest[:7], *false])
    plain = sum(gram for _, gram in [*honest[:7], *false])
    assert np.abs(total - truth).max() < 0.15 * np.abs(plain - truth).max()
    assert np.linalg.eigvalsh(total).min() > -1e-6
    shuffled = defence.total([*false, *honest[6::-1]])
    assert shuffled.tobytes() == total.tobytes()


@pytest.mark.parametrize("name", ["median", "trimmed-mean"])
def test_a_median_of_moments_keeps_their_small_eigenvalues(name: str) -> None:
    """As a median number by number does not: what is divided by them would be noise."""
    rng = np.random.default_rng(2)
    axes, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    sites = []
    for _ in range(10):
        x = rng.normal(size=(24, 20)) * 0.7 ** np.arange(20) @ axes
        sites.append((24, x.T @ x))
    pooled = np.linalg.eigvalsh(sum(gram for _, gram in sites))
    kept = np.linalg.eigvalsh(Defence(Suspects(3), name).total(sites))
    assert (kept > pooled / 5).all()
    by_number = np.linalg.eigvalsh(np.median([gram for _, gram in sites], axis=0) * 10)
    assert by_number.min() < 0  # or this would show nothing


# In an exchange.


def asked(kind: str, **options) -> Instruction:
    settled = {"byzantine": 3, "sites": 10, "clusters": K, **options}
    robust = {
        "aggregation": "trimmed-mean",
        "centroids": "robust-k-means,robust-k-means,robust-lloyd",
    }
    plan = load("covey").plan({**settled, **robust})
    return Instruction(kind=kind, run="run", round=1, plan=plan, groups=SENT)


@pytest.mark.parametrize(
    ("kind", "defended"), [("train", True), ("prepare", True), ("assess", False)]
)
def test_what_the_sites_prepare_is_defended_like_what_they_train(kind: str, defended: bool) -> None:
    site = SiteInfo("site-0", 10, 1, 8, (), {})
    whom = Participants({"site-0": 2}, {"site-0": site})
    inquiry = Inquiry(asked(kind), whom, Expected(Layout({}), D))
    assert isinstance(inquiry.update, Collected) == defended


def step_reply(site: int, sums, counts, inertia: float, images: int = 200) -> Reply:
    return Reply(
        kind="lloyd",
        site=f"site-{site}",
        round=1,
        examples=images,
        moments={"sums": sums},
        tables={"lloyd": counts[:, None]},
        sums={"inertia.0": inertia},
    )


def test_byzantine_sites_do_not_move_a_step_of_lloyds_nor_decide_which_set_is_best() -> None:
    start = Centroids(np.eye(K, D, dtype=np.float32), np.full(K, 500))
    now = lloyd.Clustering(
        start.points, start.points * 500.0, start.counts.astype(float), np.zeros(1)
    )
    truth = unit(np.eye(K, D) + 0.1)
    moved = {}
    for defence in (None, Defence(Suspects(3), centroids=True)):
        measured = Measurements(K, 0, 2000, defence)
        for site in range(7):
            measured.fold(step_reply(site, truth * 50.0, np.full(K, 50), inertia=20.0))
        for site in range(7, 10):
            measured.fold(step_reply(site, -truth * 200.0, np.full(K, 200), inertia=0.0))
        moved[defence is not None] = lloyd.step(now, measured, 1.0)
    assert np.allclose(moved[True].points, truth, atol=1e-6)
    assert moved[True].inertia == pytest.approx([200.0])
    assert np.allclose(moved[False].points, -truth, atol=1e-6)  # or this would show nothing


def test_defended_moments_give_the_probe_and_the_rank_as_plain_ones_do_where_sites_are_alike() -> (
    None
):
    plain, defended = (
        Measurements(K, 2, 2000, defence) for defence in (None, Defence(Suspects(3), "multi-krum"))
    )
    cross = np.ones((D + 1, 2)) * 50
    _, gram = moments_of(4, sites=1)[0]
    for site in range(10):
        moments = {"gram": gram, "cross": cross}
        reply = Reply(kind="assess", site=f"s{site}", round=1, examples=200, moments=moments)
        plain.fold(reply)
        defended.fold(reply)
    assert np.allclose(plain.probe(), defended.probe(), atol=1e-4)
    assert plain.rank() == pytest.approx(defended.rank())
