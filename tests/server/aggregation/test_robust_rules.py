"""Robust rules: they are their papers' formulas, and f Byzantine sites cannot move them at will."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.config.byzantine import MARGIN, ROBUST_CENTROIDS, answers_needed
from common.config.checks import check_plan
from common.config.options import Stage
from common.config.recipes import load
from common.protocol.layout import Layout
from common.utils.errors import UserError
from server.aggregation import LIMIT, ROBUST, Suspects, aggregation
from server.aggregation.rows import Rows
from server.clustering.rules import CENTROID_RULES
from tests.server.aggregation.slow_rules import PARTS, SENT, SLOW, WIDTH, vector

NAMES = tuple(ROBUST)


def grouped(vector) -> dict[str, np.ndarray]:
    """A model from its numbers in the order of `SENT`."""
    ends = np.cumsum([len(array) for array in SENT.values()])[:-1]
    return dict(zip(SENT, np.split(np.asarray(vector, np.float32), ends), strict=True))


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


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), f=st.integers(1, 3), more=st.integers(0, 3))
@example(seed=10_000, f=1, more=1)  # a geometric median that is nearly a site's own point
@example(seed=301, f=1, more=1)
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


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), f=st.integers(1, 3), kind=attacks)
def test_the_geometric_median_stays_as_near_as_minsker_says(seed, f, kind) -> None:
    honest = drawn(seed, f + 1)
    models = attacked(honest, byzantine_models(kind, honest, f, seed))
    got, n = result("geometric-median", models, f), len(models)
    for part in PARTS:
        middle = honest[:, part].mean(axis=0)
        farthest = np.linalg.norm(honest[:, part] - middle, axis=1).max()
        bound = (n - f) / (n * (n - 2 * f)) ** 0.5 * farthest
        assert np.linalg.norm(got[part] - middle) <= bound * 1.001


def test_nothing_has_a_smaller_sum_of_distances_than_the_geometric_median() -> None:
    models, rng = drawn(9, 9), np.random.default_rng(0)
    got = result("geometric-median", models, 3)
    for part in PARTS:

        def cost(point, part=part) -> float:
            return float(np.linalg.norm(models[:, part] - point, axis=1).sum())

        least = cost(got[part])
        others = [got[part] + rng.normal(scale=0.1, size=len(part)) for _ in range(50)]
        assert least <= min(map(cost, [*others, *models[:, part]])) + 1e-5
        assert least < cost(models[:, part].mean(axis=0)) - 1e-3


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
    assert set(Stage.model_fields["centroids"].annotation.__args__) == CENTROID_RULES.keys()
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
