"""A synchronous stage trains what pooled images would, however they are spread; through the real
sites and the real strategy.

What differs between two spreads is in which order the same float32 numbers are added up: within a
site by the order of its images, over sites exactly. SGD keeps such a difference as small as it is,
some 1e-7 of the largest number. AdamW divides by the gradient's own size, so that where a gradient
is next to nothing, rounding decides the step's direction: there two runs may be apart by a few
steps of the learning rate, as two pooled runs are that add up in another order.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from torch import Tensor

from common.augmentations import build_augmentation
from common.config.options import Plan
from common.data.planned import planned_data
from common.objectives.base import Batch
from common.protocol import layout
from common.utils.seeds import derive_seed
from server.strategy import CoveyStrategy
from tests.builders.records import events
from tests.builders.runs import Groups, plan, run, same, start_of

OPTIONS = {
    "objective": "spectral-contrastive",
    "normalisation": "layer",
    "synchronous": True,
    "images": 200,
    "sites": 3,
    "batch-size": 64,
    "rounds": 6,  # two passes of three steps
    "min-count": 1,
    "evaluation-share": 0.1,
    "weight-decay": 1e-2,
}
SGD = {"optimiser": "sgd", "momentum": 0.9}
RATES = {
    "spectral-contrastive": 0.01,
    "second-order-infonce": 0.01,
    "barlow-twins": 3e-4,
    "vicreg": 3e-3,
}
SPREADS = {
    "iid": {"partition": "iid"},
    "one class a site": {"partition": "p-skew(1.0)", "sites": 10},
    "unequal sizes": {"partition": "iid", "size-skew": 0.5, "sites": 5},
    "one site": {"partition": "iid", "sites": 1},
}

# One loop over pooled images, from the paper of each loss: no site, no message, no means


def drawn(digest: int, *about: str | int) -> int:
    """SplitMix64's finaliser in Python's whole numbers."""
    z = (digest ^ derive_seed(*about)) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return (z ^ (z >> 31)) % 2**63


def spectral_contrastive(z_a: Tensor, z_b: Tensor) -> Tensor:
    """HaoChen et al., eq. 6, as squared similarities of all pairs, on the sphere of radius 2."""
    a, b = (2 * F.normalize(z, dim=1) for z in (z_a, z_b))
    z = torch.cat([a, b])
    return -2 * (a * b).sum(dim=1).mean() + (z @ z.T).square().mean()


def second_order_infonce(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Mean and variance of each anchor's similarities."""
    a, b = (F.normalize(z, dim=1) for z in (z_a, z_b))
    z = torch.cat([a, b])
    x = z @ z.T / 0.5
    repelled = x.mean(dim=1) + x.var(dim=1, correction=0) / 2
    return -(a * b).sum(dim=1).mean() / 0.5 + repelled.mean()


def barlow_twins(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Zbontar et al., eqs. 1 and 2."""
    a, b = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (z_a, z_b))
    c = a.T @ b / len(a)
    diagonal = c.diagonal()
    rest = c.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + 0.005 * rest


def vicreg(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Bardes et al., eqs. 1 to 6, as their code has them, but that covariances divide by N: half
    the mean over all pairs of images of their differences' products."""
    loss = 25 * (z_a - z_b).square().mean()
    for z in (z_a, z_b):
        apart = (z[:, None] - z[None]).flatten(0, 1)
        covariance = apart.T @ apart / len(apart) / 2
        spread = (covariance.diagonal() + 1e-4).sqrt()
        loss += 25 * (1 - spread).clamp_min(0).mean() / 2
        loss += (covariance - covariance.diagonal().diag()).square().sum() / z.shape[1]
    return loss


LOSSES = {each.__name__.replace("_", "-"): each for each in (
    spectral_contrastive, second_order_infonce, barlow_twins, vicreg
)}  # fmt: skip


def pooled(the_plan: Plan) -> tuple[Groups, list[float]]:
    """The model after a plain loop over the union's batches, and the losses."""
    (stage,), data = the_plan.stages, planned_data(the_plan)
    images, seed = torch.from_numpy(data.images), the_plan.seed
    views = build_augmentation(the_plan.views, data.kind, data.side)
    digests = [
        int.from_bytes(hashlib.sha256(i.tobytes()).digest()[:8], "big") >> 1 for i in data.images
    ]
    trained = [
        row for row, digest in enumerate(digests)
        if drawn(digest, seed, "split") >= int(the_plan.evaluation_share * 2**63)
    ]  # fmt: skip
    steps = -int(-len(images) * (1 - the_plan.evaluation_share) // stage.batch_size)
    plain = the_plan.stages[0].model_copy(update={"synchronous": False})
    objective = start_of(the_plan.model_copy(update={"stages": (plain,)})).train()
    parameters = [p for p in objective.parameters() if p.requires_grad]
    if stage.optimiser == "sgd":
        optimiser = torch.optim.SGD(
            parameters, stage.learning_rate, stage.momentum, weight_decay=stage.weight_decay
        )
    else:
        optimiser = torch.optim.AdamW(
            parameters, stage.learning_rate, weight_decay=stage.weight_decay
        )
    losses, seen = [], []
    for number in range(1, stage.rounds + 1):
        over, at = divmod(number - 1, steps)
        rows = [r for r in trained if drawn(digests[r], seed, 0, "pass", over) % steps == at]
        seeds = [[drawn(digests[r], seed, number, view) for r in rows] for view in "ab"]
        a, b = (views.seeded(images[rows], torch.tensor(each)) for each in seeds)
        of_batch = objective.represent(Batch(a, b, torch.tensor(rows), torch.Generator()))
        loss = LOSSES[stage.objective](of_batch.z_a, of_batch.z_b)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        seen += rows
    assert stage.rounds < 2 * steps or sorted(seen) == sorted(
        2 * trained
    )  # each image once in each of two passes
    return layout.flatten(objective.shared()), losses


def change(the_plan: Plan, groups: Groups) -> np.ndarray:
    """What training has changed, as one vector."""
    start = layout.flatten(start_of(the_plan).shared())
    names = [name for name in sorted(groups) if name not in ("moment", "means")]
    return np.concatenate([groups[name] - start[name] for name in names])


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Relative to what was learned."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("objective", RATES)
def test_steps_of_sgd_are_those_on_pooled_images_however_they_are_spread(
    objective: str, spread: str, tmp_path: Path
) -> None:
    own = {"objective": objective, "learning-rate": RATES[objective]}
    options = OPTIONS | SGD | SPREADS[spread] | own
    the_plan = plan("fedsimclr", **options)
    pooled_model, losses = pooled(the_plan)
    expected = change(the_plan, pooled_model)
    got = change(the_plan, run(tmp_path / "run", "fedsimclr", **options))
    assert np.linalg.norm(expected) > 0.1
    assert apart(got, expected) < 1e-5
    told = [event["loss"]["loss"] for event in events(tmp_path / "run", "round")]
    assert told == pytest.approx(losses, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("objective", "normalisation", "spread"),
    [
        ("spectral-contrastive", {"head-normalisation": "batch"}, "iid"),
        ("spectral-contrastive", {"head-normalisation": "batch"}, "one class a site"),
        ("spectral-contrastive", {"head-normalisation": "batch"}, "unequal sizes"),
        ("second-order-infonce", {"normalisation": "batch"}, "one class a site"),  # the encoder's
        ("vicreg", {"head-normalisation": "batch"}, "one class a site"),  # two of them
    ],
)
def test_batch_norms_are_those_of_pooled_images_however_they_are_spread(
    objective: str, normalisation: dict[str, str], spread: str, tmp_path: Path
) -> None:
    """Torch's own, over the whole batch: gradients through their moments, running statistics."""
    own = {"objective": objective, "learning-rate": RATES[objective], "rounds": 4}
    options = OPTIONS | SGD | SPREADS[spread] | own | normalisation
    the_plan = plan("fedsimclr", **options)
    pooled_model, losses = pooled(the_plan)
    got = run(tmp_path / "run", "fedsimclr", **options)
    assert "projector.buffers" in got
    expected = change(the_plan, pooled_model)
    assert np.linalg.norm(expected) > 0.1
    assert apart(change(the_plan, got), expected) < 1e-5
    told = [event["loss"]["loss"] for event in events(tmp_path / "run", "round")]
    assert told == pytest.approx(losses, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("objective", ["spectral-contrastive", "second-order-infonce"])
def test_steps_of_adamw_at_the_server_are_those_of_torch_on_pooled_images(
    objective: str, tmp_path: Path
) -> None:
    options = OPTIONS | SPREADS["one class a site"] | {"objective": objective}
    the_plan = plan("fedsimclr", **options)
    expected = change(the_plan, pooled(the_plan)[0])
    got = change(the_plan, run(tmp_path / "run", "fedsimclr", **options))
    assert apart(got, expected) < 1e-3
    assert np.mean(np.abs(got - expected) > 1e-5) < 0.01  # of steps of 1e-3


@pytest.mark.parametrize(("form", "within"), [("int16", 1e-3), ("int8", 0.1)])
def test_gradients_of_few_bits_lead_nearly_where_whole_ones_do(
    form: str, within: float, tmp_path: Path
) -> None:
    options = OPTIONS | SGD | SPREADS["one class a site"] | {"learning-rate": 0.01}
    the_plan = plan("fedsimclr", **options)
    expected = change(the_plan, pooled(the_plan)[0])
    got = run(tmp_path / "run", "fedsimclr", **options | {"gradients": form})
    assert apart(change(the_plan, got), expected) < within
    first, *_, last = events(tmp_path / "run", "round")
    whole, moments = 4 * len(expected) * 10, 4 * 64 * 64 * 10
    share = 0.52 if form == "int16" else 0.28
    assert last["bytes_up"] - moments < whole * share
    assert last["bytes_down"] - 2 * moments < whole * share < whole < first["bytes_down"]


# What a site sends, and when it does not


def test_a_site_with_few_images_in_a_batch_sends_nothing_of_it(tmp_path: Path) -> None:
    """Five sites of 40 images, in batches of 16: most have fewer than 5 in one."""
    options = OPTIONS | {"sites": 5, "batch-size": 16, "min-count": 5, "rounds": 3}
    got = run(tmp_path / "run", "fedsimclr", **options)
    rounds = events(tmp_path / "run", "round")
    assert all(len(each["answered"]) == 5 and not each["missing"] for each in rounds)
    left = [
        json.loads(line)
        for site in range(5)
        for line in (tmp_path / "run" / "sites" / f"site-{site}" / "left.jsonl").open()
    ]
    sent = [each for each in left if each["kind"] in ("statistics", "gradient")]
    having = [each for each in sent if each["parts"]]
    assert len(sent) == 2 * 5 * 3 and 0 < len(having) < len(sent)
    assert np.linalg.norm(change(plan("fedsimclr", **options), got)) > 0


def test_a_batch_of_which_no_site_may_tell_changes_nothing(tmp_path: Path) -> None:
    options = OPTIONS | {"min-count": 60, "rounds": 2}
    the_plan = plan("fedsimclr", **options)
    got = run(tmp_path / "run", "fedsimclr", **options)
    assert not change(the_plan, got).any()
    assert [each["loss"] for each in events(tmp_path / "run", "round")] == [{}, {}]


# The server


class Killed(BaseException):
    """Nothing catches this, as nothing catches a kill."""


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, monkeypatch) -> None:
    """The optimiser's memory, the number of steps in a pass and what rounding has left out are in
    the checkpoint; the sites are sent the whole model once more."""
    options = OPTIONS | {"gradients": "int8"}
    expected = run(tmp_path / "whole", "fedsimclr", **options)
    original = CoveyStrategy._ask

    def dying(self, grid, kind, number, **more):
        answered = original(self, grid, kind, number, **more)
        if (kind, number) == ("statistics", 5):
            raise Killed
        return answered

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(CoveyStrategy, "_ask", dying)
        run(tmp_path / "run", "fedsimclr", **options)
    saved = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert saved["memory/taken"] == 4 and saved["memory/steps"] == 3
    assert same(run(tmp_path / "run", "fedsimclr", **options), expected)
    assert len(events(tmp_path / "run", "round")) == 6
