"""Multi-gradient aggregation: a common descent direction, whatever the order of arrival."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.protocol.layout import Layout
from server.aggregation import LIMIT, WeightedMean, aggregation
from server.aggregation.mgda import MultiGradient, min_norm_weights

SENT = {
    "encoder": np.array([1, -2, 3, 0.5], np.float32),
    "encoder.buffers": np.array([4, 5], np.float32),
    "projector": np.array([0, 7], np.float32),
}
WIDTH = 6  # parameters

changes = st.lists(
    st.tuples(arrays(np.float32, WIDTH, elements=st.floats(-8, 8, width=16)), st.integers(1, 1000)),
    min_size=1,
    max_size=6,
)


def model(change, buffers=(4, 5)) -> dict[str, np.ndarray]:
    """What a site sends that was moved by `change` (6,)."""
    change = np.asarray(change, np.float32)
    return {
        "encoder": SENT["encoder"] + change[:4],
        "encoder.buffers": np.array(buffers, np.float32),
        "projector": SENT["projector"] + change[4:],
    }


def fold(*updates) -> dict[str, np.ndarray]:
    rule = MultiGradient(Layout({}), SENT, 100_000)
    for groups, examples in updates:
        rule.fold(groups, examples)
    return rule.result()


def vector(groups) -> np.ndarray:
    return np.concatenate([groups["encoder"], groups["projector"]]).astype(np.float64)


def step(*updates) -> np.ndarray:
    return vector(fold(*updates)) - vector(SENT)


def test_one_site_alone_gives_back_its_own_model() -> None:
    alone = model([0.1, -0.2, 0.3, 1e-3, 5, -6], buffers=(1, 2))
    got = fold((alone, 17))
    for name, array in alone.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-7)


@given(arrays(np.float32, WIDTH, elements=st.floats(-8, 8, width=16)))
def test_equal_updates_give_fedavgs_model(change) -> None:
    updates = [(model(change), n) for n in (3, 50, 20)]
    mean = WeightedMean({name: len(array) for name, array in SENT.items()}, 100)
    for groups, examples in updates:
        mean.fold(groups, examples)
    got = fold(*updates)
    for name, array in mean.result().items():
        np.testing.assert_allclose(got[name], array, rtol=1e-6, atol=1e-7)


def test_two_orthogonal_updates_have_the_closed_form() -> None:
    """Unit vectors at a right angle are equally far from the origin: λ = ½, whatever the sizes."""
    first, second = np.array([3, 0, 4, 0, 0, 0]), np.array([0, 2, 0, 0, 0, 0])
    length = (10 * 5 + 30 * 2) / 40
    expected = length * (first / 5 + second / 2) / 2
    got = step((model(first), 10), (model(second), 30))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_opposite_updates_leave_the_model_where_it_is() -> None:
    change = np.array([1, 2, 3, 4, 5, 6])
    np.testing.assert_allclose(step((model(change), 5), (model(-3 * change), 5)), 0, atol=1e-6)


def test_a_long_update_does_not_outvote_the_short_ones() -> None:
    """The defect of the mean that the method is about: one site pulls against all others."""
    short, long = np.array([0.1, 0, 0, 0, 0, 0]), np.array([-6, 1, 0, 0, 0, 0])
    updates = [(model(short), 10)] * 3 + [(model(long), 10)]
    mean = sum(vector(groups) for groups, _ in updates) / 4 - vector(SENT)
    assert mean @ short < 0
    assert step(*updates) @ short > -1e-6


@settings(max_examples=50)
@given(changes)
def test_the_step_is_a_common_descent_direction(updates) -> None:
    taken = step(*((model(change), n) for change, n in updates))
    for change, _ in updates:
        moved = vector(model(change)) - vector(SENT)
        assert taken @ moved >= -1e-5 * (1 + np.linalg.norm(taken)) * (1 + np.linalg.norm(moved))


@settings(max_examples=50)
@given(changes, st.randoms())
def test_the_order_of_arrival_changes_no_bit(updates, random) -> None:
    sent = [(model(change), n) for change, n in updates]
    shuffled = list(sent)
    random.shuffle(shuffled)
    for ours, theirs in zip(fold(*sent).values(), fold(*shuffled).values(), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_buffers_are_plain_weighted_means() -> None:
    got = fold((model(np.ones(6), (1, 0)), 10), (model(-np.ones(6), (4, 8)), 30))
    np.testing.assert_allclose(got["encoder.buffers"], [(10 + 120) / 40, 240 / 40], rtol=1e-6)


def test_a_site_that_changed_nothing_shortens_the_step_and_is_not_a_direction() -> None:
    change = np.array([1, 2, 3, 4, 5, 6])
    got = step((model(change), 10), (model(np.zeros(6)), 30))
    np.testing.assert_allclose(got, change / 4, rtol=1e-5)
    np.testing.assert_array_equal(step((model(np.zeros(6)), 10)), 0)


def test_a_refused_update_leaves_no_trace() -> None:
    rule = MultiGradient(Layout({}), SENT, 100)
    good = model(np.ones(6))
    rule.fold(good, 10)
    infinite = {**good, "projector": np.array([np.inf, 1], np.float32)}
    large = {**good, "encoder": np.full(4, 2 * LIMIT, np.float32)}
    for bad, examples in ((infinite, 1), (large, 1), ({"encoder": good["encoder"]}, 1), (good, 91)):
        with pytest.raises(ValueError):
            rule.fold(bad, examples)
    assert rule.examples == 10
    np.testing.assert_allclose(rule.result()["encoder"], good["encoder"], rtol=1e-7)


def test_nothing_folded_is_an_error_and_not_a_nan() -> None:
    with pytest.raises(ValueError, match="nothing to average"):
        MultiGradient(Layout({}), SENT, 100).result()


def test_the_result_does_not_depend_on_how_many_numbers_are_handled_at_once(monkeypatch) -> None:
    updates = [(model(np.arange(6) - k), 10) for k in range(3)]
    whole = fold(*updates)
    monkeypatch.setattr("server.aggregation.rows.CELLS", 3)  # one number of each site
    for name, array in fold(*updates).items():
        np.testing.assert_allclose(array, whole[name], rtol=1e-6)


def test_the_rule_goes_by_its_name_and_leaves_local_statistics_out() -> None:
    sent = {name: array for name, array in SENT.items() if not name.endswith(".buffers")}
    rule = aggregation("mgda", Layout({}), sent, 100)
    rule.fold({name: array + 1 for name, array in sent.items()}, 10)
    got = rule.result()
    assert got.keys() == sent.keys()
    np.testing.assert_allclose(got["encoder"], sent["encoder"] + 1)


vectors = arrays(
    np.float64, st.tuples(st.integers(1, 7), st.integers(1, 5)), elements=st.floats(-1, 1, width=16)
)


@given(vectors)
def test_the_weights_satisfy_the_conditions_of_the_nearest_point(rows) -> None:
    """λ on the simplex is optimal if and only if no vector has a smaller inner product with
    u = Σ λ_k u_k than u itself."""
    units = rows[np.linalg.norm(rows, axis=1) > 0]
    if not len(units):
        return
    units = units / np.linalg.norm(units, axis=1, keepdims=True)
    weights = min_norm_weights(units @ units.T)
    assert (weights >= 0).all() and weights.sum() == pytest.approx(1, abs=1e-12)
    nearest = weights @ units
    assert (units @ nearest).min() >= nearest @ nearest - 1e-10


def test_three_vectors_have_the_weights_that_a_fine_search_finds() -> None:
    units = np.array([[1, 0, 0], [0.6, 0.8, 0], [-0.8, 0.0, 0.6]])
    grid = np.linspace(0, 1, 401)
    best = min(
        ((a, b, 1 - a - b) for a in grid for b in grid if a + b <= 1),
        key=lambda weights: np.linalg.norm(np.array(weights) @ units),
    )
    np.testing.assert_allclose(min_norm_weights(units @ units.T), best, atol=0.005)


@pytest.mark.parametrize("cosine", [0.9, 0.0, -0.9, -1.0])
def test_two_unit_vectors_share_equally(cosine: float) -> None:
    np.testing.assert_allclose(
        min_norm_weights(np.array([[1, cosine], [cosine, 1]])), [0.5, 0.5], atol=1e-7
    )


def test_no_vectors_are_named() -> None:
    with pytest.raises(ValueError, match="K >= 1"):
        min_norm_weights(np.zeros((0, 0)))


def test_more_sites_make_the_step_no_longer() -> None:
    """Each new direction can only bring the hull nearer to the origin."""
    rng = np.random.default_rng(0)
    units = rng.normal(size=(8, 5))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    lengths = [
        np.linalg.norm(min_norm_weights(g @ g.T) @ g) for g in (units[:k] for k in range(1, 9))
    ]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(lengths))
