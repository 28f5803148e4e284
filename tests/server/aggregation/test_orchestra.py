"""Orchestra on the server: the mean of the networks, global prototypes of the sites' centroids."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from common.config import recipes
from common.protocol.layout import Layout
from common.record.reader import read_run
from common.utils.errors import UserError
from deploy.engines.simulate import simulate
from server.aggregation import aggregation, orchestra
from server.aggregation.orchestra import global_prototypes, random_directions

G, P = 6, 5
LAYOUT = Layout({"encoder": (("w", (3,)),), "prototypes": (("rows", (G, P)),)})


@pytest.fixture
def few_steps(monkeypatch) -> None:
    monkeypatch.setattr(orchestra, "STEPS", 30)


def unit(count: int, seed: int, width: int = P) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def sent(count: int, seed: int) -> dict[str, np.ndarray]:
    """What a site with `count` centroids sends."""
    rows = np.zeros((G, P), np.float32)
    rows[:count] = unit(count, seed)
    return {"encoder": np.full(3, seed, np.float32), "prototypes": rows.reshape(-1)}


def built(start: np.ndarray | None = None):
    rows = np.zeros((G, P), np.float32) if start is None else start
    received = {"encoder": np.zeros(3, np.float32), "prototypes": rows.reshape(-1)}
    return aggregation("orchestra", LAYOUT, received, 1000)


def slow_prototypes(rows: np.ndarray, start: np.ndarray, steps: int) -> np.ndarray:
    """The authors' server, in float64: gradients by differences, Sinkhorn on plain matrices."""

    def softmax(scores: np.ndarray) -> np.ndarray:
        e = np.exp(scores)
        return e / e.sum(axis=1, keepdims=True)

    def balanced(scores: np.ndarray) -> np.ndarray:
        q = np.exp(scores / 0.04)
        for _ in range(10):
            q *= len(rows) / len(start) / q.sum(axis=0, keepdims=True)
            q /= q.sum(axis=1, keepdims=True)
        return q

    def loss(c: np.ndarray, q: np.ndarray) -> float:
        cosines = []
        for i, p in enumerate(softmax(rows @ c.T / 0.1)):
            cosines.append(q[i] @ p / np.linalg.norm(q[i]) / np.linalg.norm(p))
        return -float(np.mean(cosines))

    rows, c, velocity = rows.astype(np.float64), start.astype(np.float64), 0.0
    for _ in range(steps):
        q, gradient = balanced(rows @ c.T), np.zeros_like(c)
        for index in np.ndindex(c.shape):
            nudge = np.zeros_like(c)
            nudge[index] = 1e-5
            gradient[index] = (loss(c + nudge, q) - loss(c - nudge, q)) / 2e-5
        velocity = 0.9 * velocity + gradient + 1e-4 * c
        c = c - 0.01 * velocity
        c /= np.linalg.norm(c, axis=1, keepdims=True)
    return c


def test_global_prototypes_are_the_authors(monkeypatch) -> None:
    monkeypatch.setattr(orchestra, "STEPS", 8)
    rows, start = unit(11, 1), unit(G, 2)
    found = global_prototypes(rows, start)
    np.testing.assert_allclose(found, slow_prototypes(rows, start, 8), atol=2e-5)
    assert np.abs(found - start).max() > 1e-3


def test_prototypes_settle_on_well_separated_groups() -> None:
    centres = np.eye(4, 8, dtype=np.float32)
    noise = np.random.default_rng(0).normal(size=(40, 8)) * 0.05
    rows = (np.repeat(centres, 10, axis=0) + noise).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = global_prototypes(rows, random_directions((4, 8), "a"))
    assert sorted((rows @ found.T).argmax(1).reshape(4, 10)[:, 0]) == [0, 1, 2, 3]
    assert len(set((rows @ found.T).argmax(1))) == 4


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(4)))
def test_the_order_of_arrival_changes_no_bit(order: list[int]) -> None:
    sites = [(sent(3, 1), 5), (sent(1, 2), 70), (sent(0, 3), 9), (sent(6, 4), 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orchestra, "STEPS", 30)
        results = []
        for arrival in (range(4), order):
            rule = built(unit(G, 9))
            for index in arrival:
                rule.fold(*sites[index])
            results.append(rule.result())
    for name, array in results[0].items():
        assert array.tobytes() == results[1][name].tobytes()


def test_everything_else_is_the_weighted_mean_and_prototypes_have_unit_length(
    few_steps: None,
) -> None:
    rule = built()
    rule.fold(sent(2, 1), 30)
    rule.fold(sent(3, 5), 10)
    groups = rule.result()
    assert rule.examples == 40
    assert groups["encoder"] == pytest.approx([2, 2, 2])
    lengths = np.linalg.norm(groups["prototypes"].reshape(G, P), axis=1)
    assert lengths == pytest.approx(np.ones(G), abs=1e-5)


def test_the_first_directions_follow_the_networks_so_the_runs_seed(few_steps: None) -> None:
    found = []
    for weight in (0.0, 0.0, 1.0):
        received = {"encoder": np.full(3, weight, np.float32), "prototypes": np.zeros(G * P, "f4")}
        rule = aggregation("orchestra", LAYOUT, received, 1000)
        rule.fold(sent(3, 1), 10)
        found.append(rule.result()["prototypes"])
    assert np.array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2], atol=0.1)


def test_rows_of_0_are_no_centroids(few_steps: None) -> None:
    alone, padded = unit(3, 1), np.concatenate([unit(3, 1), np.zeros((3, P), np.float32)])
    start = unit(G, 9)
    rule = built(start)
    rule.fold({"encoder": np.zeros(3, np.float32), "prototypes": padded.reshape(-1)}, 10)
    assert np.array_equal(rule.result()["prototypes"], global_prototypes(alone, start).reshape(-1))


@pytest.mark.parametrize("start", [unit(G, 9), np.zeros((G, P), np.float32)])
def test_without_any_local_centroid_prototypes_stay_as_they_are(start: np.ndarray) -> None:
    rule = built(start)
    rule.fold(sent(0, 1), 10)
    assert np.array_equal(rule.result()["prototypes"].reshape(G, P), start)


def test_a_refused_update_leaves_no_trace(few_steps: None) -> None:
    rule = built()
    rule.fold(sent(2, 1), 10)
    before = rule.result()
    good = sent(2, 5)
    nan, short = good["prototypes"].copy(), 0.5 * good["prototypes"]
    nan[0] = np.nan
    for bad in (
        {**good, "prototypes": nan},
        {**good, "prototypes": short},
        {**good, "prototypes": good["prototypes"][:-1]},
        {"encoder": good["encoder"]},
        {**good, "encoder": np.full(3, np.inf, np.float32)},
    ):
        with pytest.raises(ValueError):
            rule.fold(bad, 10)
    with pytest.raises(ValueError, match="examples"):
        rule.fold(good, 0)
    assert rule.examples == 10
    assert all(np.array_equal(before[name], array) for name, array in rule.result().items())


def test_nothing_folded_is_an_error_and_so_is_another_objective() -> None:
    with pytest.raises(ValueError, match="nothing to average"):
        built().result()
    encoder = {"encoder": np.zeros(3, np.float32)}
    with pytest.raises(UserError, match="needs objective 'orchestra'"):
        aggregation("orchestra", Layout({"encoder": LAYOUT.groups["encoder"]}), encoder, 10)


def test_the_recipe_first_clusters_and_then_trains(tmp_path: Path, few_steps: None) -> None:
    small = {"dataset": "digits", "images": 160, "sites": 2, "local-epochs": 1, "batch-size": 32}
    plan = recipes.load("orchestra").plan(
        {
            **small,
            "rounds": 2,
            "encoder": "small-convnet",
            "parameters": "global-clusters=16 local-clusters=4 memory=32 hidden=64 width=32",
        }
    )
    simulate(plan, tmp_path / "run")
    first, second = (event.loss for event in read_run(tmp_path / "run").rounds)
    assert first == {"loss": 0, "agreement": 0, "rotation": 0}
    assert second["agreement"] > 0 and second["rotation"] > 0
    groups = load_file(tmp_path / "run" / "checkpoint.safetensors")
    (rows,) = (array for name, array in groups.items() if name.endswith("prototypes"))
    assert np.linalg.norm(rows.reshape(16, 32), axis=1) == pytest.approx(np.ones(16), abs=1e-5)
    assert any("target" in name for name in groups)
