"""L-DAWA: layers by their angle to what was sent, whatever the order of arrival."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.protocol.layout import Layout
from server.aggregation import LIMIT, WeightedMean, aggregation
from server.aggregation.l_dawa import layers

LAYOUT = Layout(
    {
        "encoder": (("weight", (2, 2)), ("bias", (2,))),
        "encoder.buffers": (("mean", (2,)),),
        "projector": (("weight", (1, 3)),),
    }
)
SENT = {
    "encoder": np.array([1, -2, 3, 0.5, 0.25, -1], np.float32),
    "encoder.buffers": np.array([4, 5], np.float32),
    "projector": np.array([0, 7, -1], np.float32),
}
BOTH = ["l-dawa", "l-dawa-normalised"]

vectors = arrays(np.float32, 11, elements=st.floats(-8, 8, width=16))
updates = st.lists(st.tuples(vectors, st.integers(1, 1000)), min_size=1, max_size=5)


def model(numbers) -> dict[str, np.ndarray]:
    """Groups of the layout from 11 numbers."""
    parts = np.split(np.asarray(numbers, np.float32), [6, 8])
    return dict(zip(SENT, parts, strict=True))


def fold(rule: str, *sites, sent=SENT) -> dict[str, np.ndarray]:
    update = aggregation(rule, LAYOUT, sent, 100_000)
    for groups, examples in sites:
        update.fold(groups, examples)
    return update.result()


def slow(sites, normalised: bool) -> dict[str, np.ndarray]:
    """The sentence of the paper, layer by layer and number by number. Cosines that nearly cancel
    are not looked at: rounding decides the sign of their sum."""
    result = {}
    total = sum(examples for _, examples in sites)
    for group, members in LAYOUT.groups.items():
        numbers, start = [], 0
        for _, shape in members:
            size = math.prod(shape)
            old = SENT[group][start : start + size].tolist()
            new = [(g[group][start : start + size].tolist(), n) for g, n in sites]
            start += size
            mean = [sum(n * layer[i] for layer, n in new) / total for i in range(size)]
            if group.endswith("buffers"):
                numbers += mean
                continue
            cosines = []
            for layer, _ in new:
                dot = sum(a * b for a, b in zip(layer, old, strict=True))
                lengths = math.sqrt(sum(a * a for a in layer) * sum(b * b for b in old))
                cosines.append(dot / lengths if lengths else 1.0)
            if normalised:
                cosines = [max(c, 0.0) for c in cosines]
            weight = sum(cosines) if normalised else len(sites)
            assume(weight == 0 or weight > 1e-6)
            if weight <= 0:
                numbers += mean
            else:
                turned = [c * np.array(layer) for c, (layer, _) in zip(cosines, new, strict=True)]
                numbers += (sum(turned) / weight).tolist()
        result[group] = np.array(numbers, np.float32)
    return result


@pytest.mark.parametrize("rule", BOTH)
@given(updates)
def test_it_is_the_papers(rule: str, changes) -> None:
    sites = [(model(numbers), examples) for numbers, examples in changes]
    expected = slow(sites, normalised=rule.endswith("normalised"))
    for name, array in fold(rule, *sites).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", BOTH)
@given(updates, st.randoms())
def test_the_order_of_arrival_changes_no_bit(rule: str, changes, random) -> None:
    sites = [(model(numbers), examples) for numbers, examples in changes]
    shuffled = list(sites)
    random.shuffle(shuffled)
    first, second = fold(rule, *sites), fold(rule, *shuffled)
    assert all(first[name].tobytes() == second[name].tobytes() for name in SENT)


@given(vectors, st.lists(st.integers(1, 1000), min_size=1, max_size=5))
def test_identical_sites_give_fedavgs_model_normalised_and_a_shrunk_one_otherwise(
    numbers, examples
) -> None:
    sites = [(model(numbers), n) for n in examples]
    mean = WeightedMean({name: len(array) for name, array in SENT.items()}, 100_000)
    for site in sites:
        mean.fold(*site)
    normalised, plain, average = fold(BOTH[1], *sites), fold(BOTH[0], *sites), mean.result()
    for name in SENT:
        np.testing.assert_allclose(normalised[name], average[name], rtol=1e-6)
        assert np.linalg.norm(plain[name]) <= np.linalg.norm(average[name]) * (1 + 1e-6)


def test_sites_that_turned_nothing_are_their_plain_mean_whatever_their_size() -> None:
    """Lengths differ, angles do not: every cosine is 1, and images do not count."""
    longer = {**SENT, **{n: 3 * SENT[n] for n in ("encoder", "projector")}}
    for rule in BOTH:
        got = fold(rule, (SENT, 1), (longer, 999))
        np.testing.assert_allclose(got["encoder"], 2 * SENT["encoder"], rtol=1e-6)


def test_a_layer_that_was_sent_or_trained_as_0_counts_in_full() -> None:
    """A new bias is 0: it has no direction to turn from."""
    sent = {**SENT, "encoder": np.array([1, -2, 3, 0.5, 0, 0], np.float32)}
    trained = {**SENT, "encoder": np.array([1, -2, 3, 0.5, 4, -6], np.float32)}
    gone = {**SENT, "encoder": np.array([1, -2, 3, 0.5, 0, 0], np.float32)}
    for rule in BOTH:
        got = fold(rule, (trained, 5), (gone, 5), sent=sent)["encoder"]
        np.testing.assert_allclose(got, [1, -2, 3, 0.5, 2, -3], rtol=1e-6)


def test_a_layer_that_was_turned_round_has_no_say_in_the_normalised_average() -> None:
    """Negative weights could cancel, and a layer grow without a bound."""
    away = {**SENT, "projector": -3 * SENT["projector"]}
    got = fold("l-dawa-normalised", (SENT, 1), (away, 3))
    np.testing.assert_allclose(got["projector"], SENT["projector"])


def test_where_all_have_turned_a_layer_round_fedavgs_mean_of_that_layer_is_left() -> None:
    turned = {**SENT, "projector": -SENT["projector"]}
    away = {**SENT, "projector": -3 * SENT["projector"]}
    got = fold("l-dawa-normalised", (turned, 1), (away, 3))
    np.testing.assert_allclose(got["projector"], -2.5 * SENT["projector"])
    np.testing.assert_allclose(got["encoder"], SENT["encoder"], rtol=1e-6)


@pytest.mark.parametrize("rule", BOTH)
def test_running_statistics_are_weighted_means_and_may_stay_at_the_sites(rule: str) -> None:
    other = {**SENT, "encoder.buffers": np.array([0, 1], np.float32)}
    got = fold(rule, (SENT, 1), (other, 3))
    assert got["encoder.buffers"].tolist() == [1, 2]
    without = {name: array for name, array in SENT.items() if not name.endswith("buffers")}
    assert fold(rule, (without, 1), sent=without).keys() == without.keys()


@pytest.mark.parametrize("rule", BOTH)
def test_a_refused_update_leaves_no_trace(rule: str) -> None:
    update = aggregation(rule, LAYOUT, SENT, 100)
    update.fold(SENT, 10)
    bad = {**SENT, "projector": np.array([2 * LIMIT, 1, 1], np.float32)}
    for groups, examples in ((bad, 10), ({"encoder": SENT["encoder"]}, 10), (SENT, 1000)):
        with pytest.raises(ValueError):
            update.fold(groups, examples)
    assert update.examples == 10
    for name, array in update.result().items():
        np.testing.assert_allclose(array, SENT[name], rtol=1e-6)


@pytest.mark.parametrize("rule", BOTH)
def test_nothing_folded_is_an_error_and_not_a_nan(rule: str) -> None:
    with pytest.raises(ValueError, match="nothing to average"):
        aggregation(rule, LAYOUT, SENT, 100).result()


def test_layers_are_the_tensors_of_a_group() -> None:
    assert layers(LAYOUT, "encoder") == [slice(0, 4), slice(4, 6)]
