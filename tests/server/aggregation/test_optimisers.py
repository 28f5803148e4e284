"""Server optimisers: their steps against the papers', number by number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from server.aggregation.optimisers import OPTIMISERS, adam, momentum

rounds = st.lists(
    arrays(np.float32, 3, elements=st.floats(-4, 4, width=16)), min_size=1, max_size=5
)


def groups(numbers) -> dict[str, np.ndarray]:
    return {
        "encoder": np.asarray(numbers, np.float32),
        "encoder.buffers": np.asarray(numbers, np.float32) + 100,
    }


def trajectory(step, means, learning_rate):
    """What was sent in each round when the sites' means are `means`, from 0; the last memory."""
    sent, memory = groups(np.zeros(3)), {}
    for mean in means:
        sent, memory = step(sent, groups(mean), memory, learning_rate)
    return sent, memory


@given(rounds)
def test_momentum_is_the_papers(means) -> None:
    weights, velocity = [0.0] * 3, [0.0] * 3
    for mean in means:
        for i in range(3):
            velocity[i] = 0.9 * velocity[i] + (float(mean[i]) - weights[i])
            weights[i] += 0.5 * velocity[i]
    sent, _ = trajectory(momentum, means, 0.5)
    np.testing.assert_allclose(sent["encoder"], weights, rtol=1e-5, atol=1e-5)


@given(rounds)
def test_adam_is_the_papers_without_bias_correction(means) -> None:
    weights, first, second = [0.0] * 3, [0.0] * 3, [1e-6] * 3
    for mean in means:
        for i in range(3):
            update = float(mean[i]) - weights[i]
            first[i] = 0.9 * first[i] + 0.1 * update
            second[i] = 0.99 * second[i] + 0.01 * update**2
            weights[i] += 0.1 * first[i] / (second[i] ** 0.5 + 1e-3)
    sent, _ = trajectory(adam, means, 0.1)
    np.testing.assert_allclose(sent["encoder"], weights, rtol=1e-4, atol=1e-4)


@given(rounds)
def test_without_momentum_and_with_a_rate_of_1_the_mean_is_taken_to_the_bit(means) -> None:
    sent, _ = trajectory(lambda *given: momentum(*given, beta=0), means, 1.0)
    assert np.array_equal(sent["encoder"], means[-1])
    once, _ = trajectory(momentum, means[:1], 1.0)
    assert np.array_equal(once["encoder"], means[0])


@given(rounds)
def test_adam_with_a_large_adaptivity_is_fedavg_with_a_small_rate(means) -> None:
    """τ far above every update, β₁ = 0: the step is η/τ·Δ (v starts at τ², so √v + τ is 2τ)."""
    tau = 1e5
    adaptive, _ = trajectory(lambda *g: adam(*g, betas=(0, 1), tau=tau), means, 2 * tau)
    np.testing.assert_allclose(adaptive["encoder"], means[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", list(OPTIMISERS))
def test_all_is_float32_and_running_statistics_are_never_stepped(name: str) -> None:
    sent, memory = trajectory(OPTIMISERS[name], [np.ones(3), np.full(3, 2.0)], 0.3)
    for array in (*sent.values(), *memory.values()):
        assert array.dtype == np.float32
    assert not any(key.endswith(".buffers") for key in memory)
    assert sent["encoder.buffers"].tolist() == [102, 102, 102]


@pytest.mark.parametrize("name", list(OPTIMISERS))
def test_what_was_given_is_not_changed(name: str) -> None:
    sent, mean = groups([1, 2, 3]), groups([2, 3, 4])
    _, memory = OPTIMISERS[name](sent, mean, {}, 0.5)
    before = {key: array.copy() for key, array in memory.items()}
    OPTIMISERS[name](sent, mean, memory, 0.5)
    assert sent["encoder"].tolist() == [1, 2, 3] and mean["encoder"].tolist() == [2, 3, 4]
    assert all(np.array_equal(memory[key], before[key]) for key in memory)
