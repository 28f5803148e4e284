"""The weighted mean is exact, does not know the order, and its weights sum to 1."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.aggregation import LIMIT, ExactSum, WeightedMean

numbers = st.floats(-LIMIT, LIMIT, width=32)
sites = st.lists(
    st.tuples(st.lists(numbers, min_size=3, max_size=3), st.integers(1, 10_000)),
    min_size=1,
    max_size=6,
)


def mean_of(updates, bound=100_000):
    mean = WeightedMean({"encoder": 3}, bound)
    for values, examples in updates:
        mean.fold({"encoder": np.array(values, np.float32)}, examples)
    return mean.result()["encoder"]


@given(sites)
def test_the_mean_is_the_rational_one_rounded_to_float32(updates) -> None:
    total = sum(examples for _, examples in updates)
    for column, got in enumerate(mean_of(updates)):
        exact = sum(Fraction(values[column]) * examples for values, examples in updates) / total
        expected = np.float32(float(exact))
        # The last bit may differ where float64 lies halfway, and below the fixed point's grain.
        assert abs(got - expected) <= max(np.spacing(abs(expected)), np.float32(2.0**-60))


@given(sites, st.randoms())
def test_the_order_of_arrival_changes_no_bit(updates, random) -> None:
    shuffled = list(updates)
    random.shuffle(shuffled)
    assert mean_of(updates).tobytes() == mean_of(shuffled).tobytes()


@given(
    st.lists(
        st.floats(-LIMIT, LIMIT, width=32, allow_subnormal=False).filter(
            lambda x: x == 0 or abs(x) > 1e-15
        ),
        min_size=3,
        max_size=3,
    ),
    st.integers(1, 10_000),
)
def test_one_site_alone_gives_back_its_own_bits(values, examples) -> None:
    alone = np.array(values, np.float32)
    assert np.array_equal(mean_of([(alone, examples)]), alone)


@settings(max_examples=20)
@given(st.integers(1, 50), st.integers(1, 50))
def test_weights_are_examples_and_sum_to_1_over_those_who_took_part(n, m) -> None:
    ones = np.ones(3, np.float32)
    assert np.array_equal(mean_of([(ones, n), (ones, m)]), ones)
    got = mean_of([(0 * ones, n), (ones, m)])
    assert got == pytest.approx(m / (n + m), rel=1e-6)


def test_a_refused_update_leaves_no_trace() -> None:
    mean = WeightedMean({"encoder": 3, "projector": 2}, 100)
    good = {"encoder": np.ones(3, np.float32), "projector": np.ones(2, np.float32)}
    mean.fold(good, 10)
    for bad in (
        {**good, "projector": np.array([np.nan, 1], np.float32)},
        {**good, "projector": np.array([2 * LIMIT, 1], np.float32)},
        {"encoder": good["encoder"]},
    ):
        with pytest.raises(ValueError):
            mean.fold(bad, 10)
    assert mean.examples == 10
    assert np.array_equal(mean.result()["encoder"], good["encoder"])


@pytest.mark.parametrize("examples", [0, -1, 101])
def test_impossible_numbers_of_examples_are_refused(examples: int) -> None:
    with pytest.raises(ValueError, match="examples"):
        WeightedMean({"encoder": 1}, 100).fold({"encoder": np.ones(1, np.float32)}, examples)


def test_nothing_folded_is_an_error_and_not_a_nan() -> None:
    with pytest.raises(ValueError, match="nothing to average"):
        WeightedMean({"encoder": 1}, 100).result()


def test_a_large_sum_does_not_overflow() -> None:
    total = ExactSum(2, bound=1e6 * 1000)
    for _ in range(1000):
        total.add(np.array([1e6, -1e6]))
    assert total.total().tolist() == [1e9, -1e9]
