"""Merge rules: what a site takes over, what it keeps, and what it remembers."""

import math

import pytest
import torch
from torch import nn

from client.merge import MERGES, SCALE, Merging


def modules(seed: int) -> dict[str, nn.Module]:
    """An encoder of two layers with BatchNorm, a projector, a predictor and a cluster head."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3)
    )
    encoder[1].running_mean.uniform_()
    heads = {name: nn.Linear(3, 2) for name in ("projector", "predictor", "cluster_head")}
    return {"encoder": encoder, **heads}


def own_of(site: dict[str, nn.Module]) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": parameter.detach().clone()
        for name, module in site.items()
        for key, parameter in module.named_parameters()
    }


def merge(rule, strength, received=None, own=None, memory=None, missed=False):
    """(the modules after the rule, what it remembers); the site's own are of another seed."""
    received = modules(0) if received is None else received
    own = own_of(modules(1)) if own is None else own
    with torch.no_grad():
        kept = MERGES[rule](Merging(received, own, memory or {}, missed, strength))
    return received, kept


def distances() -> list[float]:
    """Of each parameter of the encoder of seed 0 to that of seed 1, one number at a time."""
    pairs = zip(modules(0)["encoder"].parameters(), modules(1)["encoder"].parameters(), strict=True)
    return [
        math.sqrt(
            sum(
                (a - b) ** 2
                for a, b in zip(p.flatten().tolist(), q.flatten().tolist(), strict=True)
            )
        )
        for p, q in pairs
    ]


def share_of_own(merged, received, own) -> float:
    """μ with merged = μ·own + (1 - μ)·received, to the accuracy that all numbers agree on it."""
    shares = ((merged - received) / (own - received)).detach().flatten()
    assert torch.allclose(shares, shares[0].expand_as(shares), atol=1e-4)
    return float(shares[0])


def shares(merged) -> dict[str, float]:
    """μ of the first weight of each module, which all its numbers have."""
    received, own = modules(0), modules(1)
    return {
        name: share_of_own(*(next(m[name].parameters()) for m in (merged, received, own)))
        for name in received
    }


@pytest.mark.parametrize("rule", ["fedema", "fedema-constant"])
def test_fedema_moves_encoder_projector_and_predictor_alike_and_nothing_else(rule: str) -> None:
    whole = math.sqrt(sum(d**2 for d in distances()))
    strength = 0.3 if rule == "fedema" else 0.3 / whole
    got = shares(merge(rule, strength)[0])
    assert got.pop("cluster_head") == 0
    assert got == pytest.approx(dict.fromkeys(("encoder", "projector", "predictor"), 0.3), abs=1e-5)


@pytest.mark.parametrize("rule", ["fedema", "fedema-constant", "fedu"])
def test_running_statistics_are_the_global_models(rule: str) -> None:
    merged, _ = merge(rule, 0.3)
    for key, buffer in modules(0)["encoder"].named_buffers():
        assert torch.equal(merged["encoder"].get_buffer(key), buffer)


def test_the_scale_is_settled_once_and_the_share_follows_the_distance() -> None:
    _, memory = merge("fedema", 0.7)
    assert float(memory[SCALE]) == pytest.approx(0.7 / math.hypot(*distances()), rel=1e-5)
    # Half as far apart in a later round: half the share, by the same λ.
    received = modules(0)
    near = {k: (v + own_of(modules(0))[k]) / 2 for k, v in own_of(modules(1)).items()}
    merged, kept = merge("fedema", 0.7, received, near, memory)
    assert torch.equal(kept[SCALE], memory[SCALE])
    weights = (next(m.parameters()) for m in (merged["encoder"], modules(0)["encoder"]))
    assert share_of_own(*weights, near["encoder/0.weight"]) == pytest.approx(0.35, rel=1e-4)


def test_the_share_of_the_own_model_is_never_more_than_all_of_it() -> None:
    merged, _ = merge("fedema-constant", 1e6)
    own = own_of(modules(1))
    for name in ("encoder", "projector", "predictor"):
        for key, parameter in merged[name].named_parameters():
            assert torch.equal(parameter, own[f"{name}/{key}"])


def test_a_scale_is_not_settled_on_a_distance_of_0() -> None:
    """One site alone gets its own model back: λ = τ/0 would be infinite for good."""
    merged, memory = merge("fedema", 0.7, own=own_of(modules(0)))
    assert own_of(merged).keys() == own_of(modules(0)).keys()
    assert all(torch.equal(own_of(merged)[k], v) for k, v in own_of(modules(0)).items())
    _, later = merge("fedema", 0.7, memory=memory)
    assert float(later[SCALE]) == pytest.approx(0.7 / math.hypot(*distances()), rel=1e-5)


@pytest.mark.parametrize(("above", "takes_global"), [(1.001, True), (0.999, False)])
def test_fedu_takes_the_global_predictor_below_the_threshold(
    above: float, takes_global: bool
) -> None:
    layers = [distances()[0], distances()[3]]  # the convolution and the linear layer
    merged, memory = merge("fedu", above * sum(layers) / len(layers))
    got = shares(merged)
    assert got["encoder"] == got["projector"] == got["cluster_head"] == 0
    assert got["predictor"] == pytest.approx(0 if takes_global else 1)
    assert memory == {}


@pytest.mark.parametrize("rule", list(MERGES))
@pytest.mark.parametrize("missed", [False, True])
def test_a_first_round_and_one_after_a_missed_one_take_the_global_model(
    rule: str, missed: bool
) -> None:
    memory = {SCALE: torch.tensor(3.0)} if rule == "fedema" else {}
    merged, kept = merge(rule, 0.01, own=None if missed else {}, memory=memory, missed=missed)
    assert all(torch.equal(own_of(merged)[key], p) for key, p in own_of(modules(0)).items())
    assert kept == memory  # a settled λ outlives a missed round


@pytest.mark.parametrize("rule", ["fedu", "fedema", "fedema-constant"])
def test_heads_that_are_not_shared_or_of_another_shape_are_left_alone(rule: str) -> None:
    received, own = modules(0), own_of(modules(1))
    del received["predictor"]
    own["projector/weight"] = torch.zeros(7, 7)  # of another stage
    merged, _ = merge(rule, 0.01, received, own)
    assert torch.equal(merged["projector"].weight, modules(0)["projector"].weight)


@pytest.mark.parametrize("rule", ["fedu", "fedema", "fedema-constant"])
def test_nothing_is_read_from_the_device(rule: str) -> None:
    """On a device without values every read of one fails."""
    with torch.device("meta"):
        received, own = modules(0), own_of(modules(1))
    merge(rule, 0.5, received, own)
