"""Robust rules: they are their papers' formulas, and f Byzantine sites cannot move them at will."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.byzantine import MARGIN, ROBUST_CENTROIDS, answers_needed
from common.centroids import Centroids, unit
from common.check import check_plan
from common.errors import UserError
from common.layout import Layout
from common.messages import Instruction, Reply
from common.options import Stage
from common.recipes import load
from server import lloyd
from server.aggregation import LIMIT, ROBUST, Suspects, aggregation
from server.aggregation.collected import Collected
from server.aggregation.rows import Rows
from server.centroids import MERGES, merge_centroids
from server.exchange import Exchange
from server.greeting import SiteInfo
from server.measurements import Measurements
from server.robust import Defence, central, set_distance, voted_sums, without_negative

SENT = {
    "encoder": np.array([1, -2, 3, 0.5], np.float32),
    "encoder.buffers": np.array([4, 50], np.float32),
    "projector": np.array([0, 7], np.float32),
}
WIDTH = sum(len(array) for array in SENT.values())
NAMES = tuple(ROBUST)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def grouped(vector) -> dict[str, np.ndarray]:
    """A model from its numbers in the order of `SENT`."""
    ends = np.cumsum([len(array) for array in SENT.values()])[:-1]
    return dict(zip(SENT, np.split(np.asarray(vector, np.float32), ends), strict=True))


def vector(groups) -> np.ndarray:
    return np.concatenate([groups[name] for name in SENT]).astype(np.float64)


def result(name, models, byzantine, examples=None, exposed=()) -> np.ndarray:
    suspects = Suspects(byzantine, set(exposed))
    rule = aggregation(name, Layout({}), SENT, 10_000, suspects)
    for number, model in enumerate(models):
        rule.fold(grouped(model), 10 if examples is None else examples[number])
    return vector(rule.result())


def drawn(seed, sites, spread=1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    changes = spread * rng.normal(size=(sites, WIDTH))
    return (vector(SENT) + changes).astype(np.float32)


# Slow references: loops, as the papers print them.


def slow_median(models, f) -> list[float]:
    found = []
    for column in zip(*models, strict=True):
        values = sorted(column)
        n = len(values)
        found.append((values[(n - 1) // 2] + values[n // 2]) / 2)
    return found


def slow_trimmed_mean(models, f) -> list[float]:
    found = []
    for column in zip(*models, strict=True):
        kept = sorted(column)[f : len(column) - f]
        found.append(sum(kept) / len(kept))
    return found


PARTS = ([0, 1, 2, 3, 6, 7], [4, 5])  # parameters; running statistics


def slow_clipping(models, f) -> list[float]:
    sent, n = vector(SENT), len(models)
    new = sent.copy()
    for part in PARTS:
        changes = [[float(m[i]) - sent[i] for i in part] for m in models]
        norms = [sum(c * c for c in change) ** 0.5 for change in changes]
        (longest,) = slow_median([[x] for x in norms], f)
        for change, norm in zip(changes, norms, strict=True):
            for i, c in zip(part, change, strict=True):
                new[i] += c * min(1, longest / norm) / n
    return list(new)


def slow_scores(models, f) -> list[float]:
    sent, n = vector(SENT), len(models)
    squares = [
        (slow_median([[sum((float(m[i]) - sent[i]) ** 2 for i in part)] for m in models], f)[0])
        for part in PARTS
    ]
    found = []
    for i in range(n):
        distances = sorted(
            sum(
                sum((float(models[i][c]) - float(models[j][c])) ** 2 for c in part) / square
                for part, square in zip(PARTS, squares, strict=True)
            )
            for j in range(n)
            if j != i
        )
        found.append(sum(distances[: n - f - 2]))
    return found


def slow_krum(models, f) -> list[float]:
    scores = slow_scores(models, f)
    return list(models[scores.index(min(scores))])


def slow_multi_krum(models, f) -> list[float]:
    scores = slow_scores(models, f)
    chosen = sorted(range(len(models)), key=lambda i: scores[i])[: len(models) - f]
    return list(np.mean([models[i] for i in chosen], axis=0, dtype=np.float64))


SLOW = {
    "median": slow_median,
    "trimmed-mean": slow_trimmed_mean,
    "norm-clipping": slow_clipping,
    "krum": slow_krum,
    "multi-krum": slow_multi_krum,
}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), f=st.integers(1, 3), more=st.integers(0, 3))
def test_a_rule_is_its_formula(name: str, seed: int, f: int, more: int) -> None:
    models = drawn(seed, 2 * f + MARGIN[name] + more)
    np.testing.assert_allclose(result(name, models, f), SLOW[name](models, f), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(9)))
def test_the_order_of_arrival_changes_no_bit(name: str, seed: int, order: list[int]) -> None:
    models = drawn(seed, 9)
    models[4] = models[3]  # ties, too
    assert result(name, models, 3).tobytes() == result(name, models[order], 3).tobytes()


def test_of_two_equal_updates_the_order_of_arrival_does_not_choose() -> None:
    one, two = drawn(0, 2)
    arrived = [one, one, one, two, two, two]
    assert np.array_equal(result("krum", arrived, 1), result("krum", arrived[::-1], 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_site_has_one_vote_whatever_number_of_images_it_claims(name: str) -> None:
    models = drawn(1, 9)
    claimed = [1, 5000, *[10] * 7]
    assert np.array_equal(result(name, models, 3), result(name, models, 3, claimed))


@pytest.mark.parametrize("name", NAMES)
def test_sites_that_agree_get_what_they_agree_on(name: str) -> None:
    model = drawn(2, 1)[0]
    assert np.array_equal(result(name, [model] * 9, 3), model)


def test_without_suspects_the_trimmed_mean_is_the_mean_and_at_most_the_median() -> None:
    models = drawn(3, 7)
    assert np.allclose(result("trimmed-mean", models, 0), models.mean(axis=0), atol=1e-5)
    assert np.allclose(result("trimmed-mean", models, 3), result("median", models, 3), atol=1e-6)


def attacked(honest: np.ndarray, byzantine: np.ndarray) -> np.ndarray:
    return np.clip(np.concatenate([honest, byzantine]), -LIMIT, LIMIT).astype(np.float32)


attacks = st.sampled_from(["far", "huge", "same", "mixed"])


def byzantine_models(kind: str, honest: np.ndarray, f: int, seed: int) -> np.ndarray:
    """What f sites send that know everything."""
    rng = np.random.default_rng(seed)
    return {
        "far": honest.mean(axis=0) + 100 * rng.normal(size=(f, WIDTH)),
        "huge": np.full((f, WIDTH), rng.choice([-1, 1]) * LIMIT),
        "same": np.repeat(honest[:1] + rng.normal(scale=5, size=WIDTH), f, axis=0),
        "mixed": np.where(rng.random((f, WIDTH)) < 0.5, honest[:f], -LIMIT),
    }[kind]


@pytest.mark.parametrize("name", ["median", "trimmed-mean"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), f=st.integers(1, 3), more=st.integers(0, 2), kind=attacks)
def test_no_number_leaves_the_honest_range(name, seed, f, more, kind) -> None:
    honest = drawn(seed, f + 1 + more)
    got = result(name, attacked(honest, byzantine_models(kind, honest, f, seed)), f)
    slack = 1e-5
    assert (got >= honest.min(axis=0) - slack).all() and (got <= honest.max(axis=0) + slack).all()


def test_one_site_more_than_it_withstands_moves_the_median() -> None:
    honest = drawn(0, 4)
    ruin = np.full((5, WIDTH), LIMIT, np.float32)
    assert result("median", attacked(honest, ruin), 1).max() == LIMIT


@pytest.mark.parametrize("name", ["krum", "multi-krum"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), f=st.integers(1, 3), kind=attacks)
def test_what_krum_takes_is_near_an_honest_update(name, seed, f, kind) -> None:
    """Within √(n - f - 2) of the honest updates' diameter, in units of each part."""
    honest = drawn(seed, f + 3)
    models = attacked(honest, byzantine_models(kind, honest, f, seed))
    n = len(models)
    squares = [
        np.median(np.square(models[:, part].astype(float) - vector(SENT)[part]).sum(axis=1))
        for part in PARTS
    ]

    def distance(a, b) -> float:
        difference = np.square(np.asarray(a, float) - np.asarray(b, float))
        parts = zip(PARTS, squares, strict=True)
        return float(sum(difference[part].sum() / square for part, square in parts)) ** 0.5

    diameter = max(distance(a, b) for a, b in combinations(honest, 2))
    got = result(name, models, f)
    bound = (n - f - 2) ** 0.5 * diameter
    if name == "krum":
        assert min(distance(got, own) for own in honest) <= bound + 1e-4
    else:  # a mean of updates that are each so near to an honest one
        middle = honest.mean(axis=0)
        assert distance(got, middle) <= bound + diameter + 1e-4


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), f=st.integers(1, 3), kind=attacks)
def test_clipped_sites_move_the_model_no_farther_than_honest_ones(seed, f, kind) -> None:
    honest = drawn(seed, f + 1)
    got = result("norm-clipping", attacked(honest, byzantine_models(kind, honest, f, seed)), f)
    for part in PARTS:
        longest = np.linalg.norm(honest[:, part] - vector(SENT)[part], axis=1).max()
        assert np.linalg.norm(got[part] - vector(SENT)[part]) <= longest * (1 + 1e-5)


def test_krum_sees_good_parameters_with_ruinous_statistics() -> None:
    honest = drawn(5, 7)
    rng = np.random.default_rng(0)
    honest[:, PARTS[1]] = vector(SENT)[PARTS[1]] + 0.001 * rng.normal(size=(7, 2))
    false = honest[:2].copy()
    # Nothing beside what the parameters change, and far beyond what honest statistics do.
    false[:, PARTS[1]] += 0.05
    got = result("multi-krum", attacked(honest, false), 2)
    assert (got[PARTS[1]] <= honest[:, PARTS[1]].max(axis=0) + 1e-4).all()


@pytest.mark.parametrize("name", NAMES)
def test_too_few_answers_are_an_error_and_refused_sites_are_not_suspected_twice(name: str) -> None:
    models = drawn(6, 2 * 3 + MARGIN[name] - 1)
    with pytest.raises(UserError, match=f"{name}: .* too few .* takes {6 + MARGIN[name]}"):
        result(name, models, 3)
    result(name, models, 3, exposed={"site-9"})


def test_a_refused_update_leaves_no_trace() -> None:
    rule = aggregation("median", Layout({}), SENT, 100, Suspects(0))
    for bad in (
        {**SENT, "projector": np.array([np.nan, 1], np.float32)},
        {**SENT, "projector": np.array([2 * LIMIT, 1], np.float32)},
        {**SENT, "projector": np.ones(3, np.float32)},
        {"encoder": SENT["encoder"]},
    ):
        with pytest.raises(ValueError):
            rule.fold(bad, 10)
    with pytest.raises(ValueError, match="examples"):
        rule.fold(SENT, 101)
    with pytest.raises(ValueError, match="nothing"):
        rule.result()
    rule.fold(SENT, 10)
    assert rule.examples == 10 and np.array_equal(vector(rule.result()), vector(SENT))


def test_blocks_of_columns_change_nothing(monkeypatch) -> None:
    whole = {name: result(name, drawn(7, 9), 3) for name in NAMES}
    monkeypatch.setattr("server.aggregation.rows.CELLS", 18)
    for name in NAMES:
        np.testing.assert_allclose(result(name, drawn(7, 9), 3), whole[name], rtol=1e-6)
    assert len(list(Rows(drawn(7, 9), drawn(8, 1)[0]).blocks())) == 4


# Names and plans.


def test_every_robust_name_is_an_option_and_has_its_margin() -> None:
    choices = Stage.model_fields["aggregation"].annotation.__args__
    assert ROBUST.keys() == MARGIN.keys() == set(choices) & ROBUST.keys()
    assert set(Stage.model_fields["centroids"].annotation.__args__) == MERGES.keys()
    stage = Stage(name="a", objective="simclr", aggregation="median")
    assert answers_needed(stage, 3) == 7
    robust = stage.model_copy(update={"centroids": ROBUST_CENTROIDS[0]})
    assert answers_needed(robust, 3) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "krum", "sites": 10}, "say with byzantine"),
        ({"byzantine": 1, "sites": 10}, "no stage has a robust rule"),
        ({"aggregation": "krum", "byzantine": 3, "sites": 8}, "need 9 answers.*asks 8 sites"),
        (
            {"centroids": "robust-k-means", "byzantine": 3, "sites": 20, "participation": 0.4},
            "need 9 answers.*asks 8 sites",
        ),
    ],
)
def test_a_plan_that_cannot_hold_its_promise_is_refused(options, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_plan(load("fedsimclr").plan(options))


def test_a_plan_that_can_is_not() -> None:
    check_plan(load("fedsimclr").plan({"aggregation": "krum", "byzantine": 3, "sites": 9}))


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


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "multi-krum"])
def test_byzantine_moments_are_kept_out(name: str) -> None:
    honest = moments_of(0)
    truth = sum(gram for _, gram in honest)
    rng = np.random.default_rng(1)
    direction = unit(rng.normal(size=(1, D + 1)))[0].astype(np.float64)
    false = [(200, 200 * np.outer(direction, direction))] * 3
    defence = Defence(Suspects(3), name)
    total = defence.total("gram", [*honest[:7], *false])
    plain = sum(gram for _, gram in [*honest[:7], *false])
    assert np.abs(total - truth).max() < 0.15 * np.abs(plain - truth).max()
    assert np.linalg.eigvalsh(total).min() > -1e-6
    shuffled = defence.total("gram", [*false, *honest[6::-1]])
    assert shuffled.tobytes() == total.tobytes()


def test_what_the_median_makes_of_moments_gets_no_negative_eigenvalue() -> None:
    crooked = np.array([[1.0, 2.0], [2.0, 1.0]])
    mended = without_negative(crooked)
    assert np.allclose(mended, np.full((2, 2), 1.5))
    assert np.allclose(without_negative(np.eye(2)), np.eye(2))


# In an exchange.


def asked(kind: str, **options) -> Instruction:
    settled = {"byzantine": 3, "sites": 10, "clusters": K, **options}
    robust = {"aggregation": "trimmed-mean", "centroids": "robust-k-means,robust-lloyd"}
    plan = load("covey").plan({**settled, **robust})
    return Instruction(kind=kind, run="run", round=1, plan=plan, groups=SENT)


@pytest.mark.parametrize(
    ("kind", "defended"), [("train", True), ("prepare", True), ("assess", False)]
)
def test_what_the_sites_prepare_is_defended_like_what_they_train(kind: str, defended: bool) -> None:
    site = SiteInfo("site-0", 10, 1, 8, (), {})
    exchange = Exchange(asked(kind), {"site-0": 2}, {"site-0": site}, Layout({}), D)
    assert isinstance(exchange.update, Collected) == defended


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
        measured = Measurements(D, K, 0, 2000, defence)
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
        Measurements(D, K, 2, 2000, defence)
        for defence in (None, Defence(Suspects(3), "multi-krum"))
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
