"""Federated methods in the limits where what they must do is known, through the real sites and the
real strategy: a weight of 0 is the method without it, and so on.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from client.tasks import train as training
from client.tasks.train import pull_back
from common.data.planned import planned_data, planned_partition
from common.protocol import layout
from common.utils.seeds import generator
from server.aggregation import optimisers
from tests.builders.runs import Groups, parameters, plan, run, same, start_of

# Local merging


@pytest.fixture(scope="module")
def fedbyol(tmp_path_factory) -> Groups:
    return run(tmp_path_factory.mktemp("fedbyol") / "run", "fedbyol")


@pytest.mark.parametrize(
    ("recipe", "limit", "other"),
    [("fedema", 0, 0.7), ("fedema-constant", 0, 0.4), ("fedu", 1e9, 0)],
)
def test_a_merge_that_takes_only_the_global_model_is_fedbyol_to_the_bit(
    recipe: str, limit: float, other: float, fedbyol: Groups, tmp_path: Path
) -> None:
    for strength in (limit, other):
        got = run(tmp_path / f"{strength}", recipe, **{"merge-strength": strength})
        assert same(got, fedbyol) == (strength == limit)


def test_fedema_with_a_huge_lambda_leaves_every_site_to_itself(tmp_path: Path) -> None:
    """μ = 1: the site's own model is the one that it would have if it were alone."""
    run(tmp_path / "run", "fedema-constant", **{"merge-strength": 1e9})
    alone = run(tmp_path / "alone", "fedbyol", alone=1)
    state = load_file(tmp_path / "run/sites/site-0/run/state-000002.safetensors")
    for name, module in start_of(plan("fedbyol")).shared().items():
        own = [state[f"own/{name}/{key}"].reshape(-1) for key, _ in module.named_parameters()]
        assert np.array_equal(np.concatenate(own), alone[name])


def test_fedu_with_a_threshold_of_0_keeps_the_sites_own_predictor(
    tmp_path: Path, monkeypatch
) -> None:
    models: list[Groups] = []  # before and after each training: site-0, site-1, site-0, site-1
    original = training.train_round

    def watched(bench, *rest):
        models.append(layout.flatten(bench.model.shared()))
        totals = original(bench, *rest)
        models.append(layout.flatten(bench.model.shared()))
        return totals

    monkeypatch.setattr(training, "train_round", watched)
    run(tmp_path / "run", "fedu", **{"merge-strength": 0})
    _, first, _, second, first_again, _, second_again, _ = models
    for before, after in ((first, first_again), (second, second_again)):
        assert np.array_equal(after["predictor"], before["predictor"])
    for name in ("encoder", "projector"):
        assert np.array_equal(first_again[name], second_again[name])
        assert not np.array_equal(first_again[name], first[name])


# Terms of a loss


@pytest.mark.parametrize(
    ("recipe", "without", "is_then"),
    [
        ("fedbyol-reg", {"contrastive-weight": 0}, "fedbyol"),
        ("ccfc++", {"parameters": "first=ccfc decorrelation-weight=0,"}, "ccfc"),
    ],
)
def test_a_term_of_weight_0_leaves_the_method_without_it_to_the_bit(
    recipe: str, without: dict, is_then: str, tmp_path: Path
) -> None:
    stages = len(plan(recipe).stages)
    rounds = {"rounds": "1" + ",0" * (stages - 1)}
    limit = run(tmp_path / "limit", recipe, **rounds, **without)
    assert same(limit, run(tmp_path / "other", is_then, **rounds))
    assert not same(run(tmp_path / "run", recipe, **rounds), limit)


# Aggregation


def test_l_dawa_normalised_with_identical_sites_is_fedavg(tmp_path: Path, monkeypatch) -> None:
    """All sites hold the same images and draw the same chance."""
    one = planned_partition(plan("fedsimclr"), planned_data(plan("fedsimclr"))).sites[0]

    def copies(the_plan, data):
        whole = planned_partition(the_plan, data)
        return type(whole)(whole.spec, whole.seed, (one, one))

    def nameless(device, *parts):
        return generator(device, *("site" if str(p).startswith("site-") else p for p in parts))

    monkeypatch.setattr("common.data.planned.planned_partition", copies)
    monkeypatch.setattr("client.tasks.task.seeds.generator", nameless)
    fedavg, normalised, plain = (
        run(tmp_path / rule, "ldawa", aggregation=rule)
        for rule in ("mean", "l-dawa-normalised", "l-dawa")
    )
    for name, array in fedavg.items():
        np.testing.assert_allclose(normalised[name], array, rtol=1e-6, atol=1e-12)
    assert np.linalg.norm(parameters(plain)) < 0.9999 * np.linalg.norm(parameters(fedavg))


# The proximal term


@pytest.fixture(scope="module")
def fedsimclr(tmp_path_factory) -> Groups:
    return run(tmp_path_factory.mktemp("fedsimclr") / "run", "fedsimclr")


def test_fedprox_with_a_weight_of_0_is_fedavg_to_the_bit(fedsimclr: Groups, tmp_path: Path) -> None:
    assert same(run(tmp_path / "limit", "fedprox", proximal=0), fedsimclr)
    assert not same(run(tmp_path / "run", "fedprox"), fedsimclr)


def test_fedprox_with_a_huge_weight_holds_the_sites_where_they_are(tmp_path: Path) -> None:
    start = parameters(layout.flatten(start_of(plan("fedprox")).shared()))
    options = {
        "rounds": 1,
        "local-epochs": 8,
        "batch-size": 16,
        "optimiser": "sgd",
        "learning-rate": 1e-3,
    }
    free, held = (
        np.linalg.norm(
            parameters(run(tmp_path / f"{weight}", "fedprox", proximal=weight, **options)) - start
        )
        for weight in (0, 1000)
    )
    assert held < 0.2 * free  # 24 steps, of which each but the last is taken back


def test_the_proximal_gradient_is_autograds() -> None:
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((3, 2), (4,), (1,))]
    received = [torch.randn_like(w) for w in weights]
    loss = sum((w**3).sum() for w in weights[:2])  # the last has no gradient, and gets none
    distance = sum(((w - r) ** 2).sum() for w, r in zip(weights[:2], received[:2], strict=True))
    expected = torch.autograd.grad(loss + 0.7 / 2 * distance, weights[:2], retain_graph=True)
    loss.backward()
    pull_back(weights, received, 0.7)
    for weight, gradient in zip(weights[:2], expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)
    assert weights[2].grad is None


# Server optimisers


def test_fedavgms_first_step_is_fedavg_to_the_bit(tmp_path: Path) -> None:
    first = run(tmp_path / "fedavg", "fedsimclr", rounds=1)
    assert same(run(tmp_path / "fedavgm", "fedavgm", rounds=1), first)


def test_fedavgm_without_momentum_is_fedavg_to_the_bit(
    fedsimclr: Groups, tmp_path: Path, monkeypatch
) -> None:
    assert not same(run(tmp_path / "with", "fedavgm"), fedsimclr)
    monkeypatch.setitem(optimisers.OPTIMISERS, "momentum", partial(optimisers.momentum, beta=0))
    assert same(run(tmp_path / "without", "fedavgm"), fedsimclr)


def test_fedadam_moves_each_number_by_at_most_its_rate_and_keeps_float32(tmp_path: Path) -> None:
    """From m = 0 and v = τ²: |m|/√v is at most .1/√.01 in the first round."""
    rate = 0.01
    got = run(tmp_path / "run", "fedadam", rounds=1, **{"server-learning-rate": rate})
    start = parameters(layout.flatten(start_of(plan("fedadam")).shared()))
    moved = np.abs(parameters(got) - start).max()
    assert 0.05 * rate < moved <= rate
    saved = load_file(tmp_path / "run" / "checkpoint.safetensors")
    memory = {name: array for name, array in saved.items() if name.startswith("memory/")}
    assert set(memory) == {
        f"memory/{moment}/{name}"
        for moment in ("first", "second")
        for name in ("encoder", "projector")
    }
    assert all(array.dtype == np.float32 for array in (*got.values(), *memory.values()))


# Steps and passes


def test_as_many_local_steps_as_a_pass_takes_are_the_pass_to_the_bit(tmp_path: Path) -> None:
    options = {"sites": 2, "rounds": 2, "batch-size": 16}  # 48 training images at each site
    passes = run(tmp_path / "passes", "fedsimclr", **options)
    assert same(run(tmp_path / "steps", "fedsimclr", **options, **{"local-steps": 3}), passes)
    fewer = run(tmp_path / "fewer", "fedsimclr", **options, **{"local-steps": 2})
    assert not same(fewer, passes)


def test_local_steps_go_on_into_further_passes(tmp_path: Path) -> None:
    options = {"sites": 2, "rounds": 1, "batch-size": 16}
    passes = run(tmp_path / "passes", "fedsimclr", **options, **{"local-epochs": 2})
    assert same(run(tmp_path / "steps", "fedsimclr", **options, **{"local-steps": 6}), passes)
