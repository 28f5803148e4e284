"""Federated methods in the limits where what they must do is known, through the real sites and the
real strategy: one site is centralised training, a weight of 0 is the method without it, and so on.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

from client.training import pull_back
from common import layout, recipes
from common.data.planned import planned_data, planned_partition
from common.objectives import build_stage
from common.objectives.base import Batch, Objective
from common.options import Plan
from common.seeds import generator
from common.views import Views, build_views
from deploy.simulate import simulate
from server import optimisers

SMALL = {
    "dataset": "digits",
    "images": 120,
    "sites": 2,
    "partition": "iid",
    "encoder": "small-convnet",
    "clusters": 10,
    "rounds": 2,
    "local-epochs": 1,
    "batch-size": 32,
    "device": "cpu",
}

Groups = dict[str, np.ndarray]


def plan(recipe: str, **options) -> Plan:
    return recipes.load(recipe).plan({**SMALL, **options})


def run(folder: Path, recipe: str, **options) -> Groups:
    """The global model after a simulated federation."""
    simulate(plan(recipe, **options), folder)
    saved = load_file(folder / "checkpoint.safetensors")
    return {k.removeprefix("group/"): v for k, v in saved.items() if k.startswith("group/")}


def same(one: Groups, other: Groups) -> bool:
    """Whether all bits are the same."""
    assert one.keys() == other.keys()
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


def parameters(groups: Groups) -> np.ndarray:
    """All but running statistics, as one vector."""
    names = sorted(name for name in groups if not name.endswith(layout.BUFFERS))
    return np.concatenate([groups[name] for name in names])


def start_of(the_plan: Plan) -> Objective:
    data = planned_data(the_plan)
    objective = build_stage(the_plan, 0, data.channels, data.side, the_plan.clusters)
    return objective.to(memory_format=torch.channels_last)


def training_rows(the_plan: Plan, site: str, n: int) -> Tensor:
    """Which of a site's `n` images it trains on: all but the fifth that it keeps for evaluation."""
    order = torch.randperm(n, generator=generator("cpu", the_plan.seed, site, "split"))
    return order[round(n * the_plan.evaluation_share) :]


# One site with everything


def centralised(the_plan: Plan) -> Groups:
    """A plain loop over all training images: no server, no messages, no site."""
    (stage,), data = the_plan.stages, planned_data(the_plan)
    images = torch.from_numpy(data.images)
    rows = training_rows(the_plan, "site-0", len(images))
    views = build_views(the_plan.views, data.kind, data.side)
    objective = start_of(the_plan).train()
    trained = [p for p in objective.parameters() if p.requires_grad]
    steps_of_epoch = -(-len(rows) // stage.batch_size)
    step, steps = 0, stage.rounds * stage.local_epochs * steps_of_epoch
    for number in range(1, stage.rounds + 1):
        chance = generator("cpu", the_plan.seed, "site-0", number, "train")
        optimiser = torch.optim.AdamW(
            trained, lr=stage.learning_rate, weight_decay=stage.weight_decay, fused=True
        )
        for _ in range(stage.local_epochs):
            for batch in torch.randperm(len(rows), generator=chance).tensor_split(steps_of_epoch):
                a, b = views.pair(images[rows[batch]], chance)
                terms = objective.terms(objective.represent(Batch(a, b, batch, chance)))
                optimiser.zero_grad()
                sum(terms.values()).backward()
                optimiser.step()
                step += 1
                objective.after_step(step / steps)
    return layout.flatten(objective.shared())


@pytest.mark.parametrize("recipe", ["fedsimclr", "fedbyol", "fedema", "fedavgm"])
def test_one_site_with_everything_is_centralised_training_to_the_bit(
    recipe: str, tmp_path: Path
) -> None:
    """Whatever the method does between sites. (FedAvgM: in its first round.)"""
    options = {"sites": 1, "local-epochs": 2, "rounds": 1 if recipe == "fedavgm" else 2}
    assert same(run(tmp_path / "run", recipe, **options), centralised(plan(recipe, **options)))


# Equal sites, one step


def union_step(the_plan: Plan) -> tuple[Groups, Groups]:
    """(before, after) one step of gradient descent on the mean loss of all sites' images."""
    (stage,), data = the_plan.stages, planned_data(the_plan)
    rows = []
    for index, part in enumerate(planned_partition(the_plan, data).sites):
        rows.append(torch.from_numpy(part)[training_rows(the_plan, f"site-{index}", len(part))])
    images = torch.from_numpy(data.images)[torch.cat(rows)]
    objective = start_of(the_plan)
    before = layout.flatten(objective.shared())
    a, b = mirrored(None, images, None)
    seen = objective.represent(Batch(a, b, torch.arange(len(a)), torch.Generator()))
    sum(objective.terms(seen).values()).backward()
    with torch.no_grad():
        for p in objective.parameters():
            if p.grad is not None:
                p.sub_(stage.learning_rate * (p.grad + stage.weight_decay * p))
    return before, layout.flatten(objective.shared())


def mirrored(_views, images: Tensor, _chance) -> tuple[Tensor, Tensor]:
    """Views without chance: the image, and its mirror image."""
    plain = images.float() / 255
    return plain, plain.flip(3)


@pytest.mark.parametrize("objective", ["byol", "simsiam"])
@pytest.mark.parametrize("skew", [0, 0.5])
def test_a_full_batch_step_at_the_sites_is_one_on_their_union(
    objective: str, skew: float, tmp_path: Path, monkeypatch
) -> None:
    """The mean of the sites' gradients is the union's, if images and not sites or batches count."""
    options = {
        "objective": objective,
        "sites": 3,
        "rounds": 1,
        "batch-size": 1000,
        "optimiser": "sgd",
        "learning-rate": 0.5,
        "normalisation": "group",
        "size-skew": skew,
    }
    monkeypatch.setattr(Views, "pair", mirrored)
    got = run(tmp_path / "run", "fedbyol", **options)
    before, after = union_step(plan("fedbyol", **options))
    assert max(np.abs(after[name] - before[name]).max() for name in after) > 1e-3
    for name, array in after.items():
        np.testing.assert_allclose(got[name], array, rtol=0, atol=1e-5)


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
    from client import work  # noqa: PLC0415

    models: list[Groups] = []  # before and after each training: site-0, site-1, site-0, site-1
    original = work.train_round

    def watched(bench, *rest):
        models.append(layout.flatten(bench.objective.shared()))
        totals = original(bench, *rest)
        models.append(layout.flatten(bench.objective.shared()))
        return totals

    monkeypatch.setattr(work, "train_round", watched)
    run(tmp_path / "run", "fedu", **{"merge-strength": 0})
    _, first, _, second, first_again, _, second_again, _ = models
    for before, after in ((first, first_again), (second, second_again)):
        assert np.array_equal(after["predictor"], before["predictor"])
    for name in ("encoder", "projector"):
        assert np.array_equal(first_again[name], second_again[name])
        assert not np.array_equal(first_again[name], first[name])


# Aggregation


def test_l_dawa_normalised_with_identical_sites_is_fedavg(tmp_path: Path, monkeypatch) -> None:
    """All sites hold the same images and draw the same chance."""
    one = planned_partition(plan("fedsimclr"), planned_data(plan("fedsimclr"))).sites[0]

    def copies(the_plan, data):
        whole = planned_partition(the_plan, data)
        return type(whole)(whole.spec, whole.seed, (one, one))

    def nameless(device, *parts):
        return generator(device, *("site" if str(p).startswith("site-") else p for p in parts))

    monkeypatch.setattr("deploy.simulate.planned_partition", copies)
    monkeypatch.setattr("client.work.generator", nameless)
    monkeypatch.setattr("client.trainer.generator", nameless)
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
