"""What objectives share, keep, and do between steps."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from common.config import recipes
from common.config.options import Plan
from common.losses.contrastive import nt_xent, symmetric_info_nce
from common.objectives import NAMES, OBJECTIVES
from common.objectives.base import LocalRound
from common.objectives.cluster import Cluster
from common.objectives.target import TargetObjective, momentum_at
from common.stages import build_stage, settle_parameters
from common.utils.errors import UserError
from tests.builders.objectives import objective, total, views


@pytest.mark.parametrize("name", NAMES)
def test_every_shared_parameter_gets_a_gradient_and_no_local_one_does(name: str) -> None:
    part = objective(name)
    total(part.terms(part.represent(views()))).backward()
    for module in part.shared().values():
        assert all(p.grad is not None for p in module.parameters() if p.requires_grad)
    for module in part.local().values():
        assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_shared_or_local_or_received_and_only_one_of_these(name: str) -> None:
    part = objective(name)
    listed = [
        id(tensor)
        for module in [*part.shared().values(), *part.local().values(), *part.received().values()]
        for tensor in [*module.parameters(), *module.buffers()]
    ]
    assert len(set(listed)) == len(listed)
    assert set(listed) == {id(tensor) for tensor in [*part.parameters(), *part.buffers()]}


class NoReading(TorchDispatchMode):
    """Fails where the host needs a number of a tensor, for which it would wait for a GPU."""

    NEEDS_ONE = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "bincount")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in self.NEEDS_ONE, f"{func} reads a tensor"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_reads_nothing_from_the_device_and_its_losses_are_float32(name: str) -> None:
    """Under mixed precision, in its second step, in which queues and memories are not empty."""
    part, batch = objective(name), views()
    chance, width = torch.Generator().manual_seed(0), part.width("encoder")
    points = torch.nn.functional.normalize(torch.randn(8, width, generator=chance), dim=1)
    site = LocalRound(lambda: points, lambda: iter([batch]), None, chance, progress=0.5)
    part.begin_round(site)
    part.begin_epoch(site)
    part.train()
    with NoReading():
        for _ in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                terms = part.terms(part.represent(batch))
            total(terms).backward()
            part.after_step(0.5)
        with pytest.raises(AssertionError, match="reads a tensor"):
            batch.a.sum().item()
    assert {term.dtype for term in terms.values()} == {torch.float32}


@pytest.mark.parametrize("name", NAMES)
def test_building_is_repeatable_and_leaves_the_global_generator_alone(name: str) -> None:
    plan = recipes.load("fedsimclr").plan({"objective": name})
    before = torch.get_rng_state()
    first, second = (build_stage(plan, 0, 1, 8, 4).state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "name", [n for n, kind in OBJECTIVES.items() if issubclass(kind, TargetObjective)]
)
def test_the_target_moves_by_1_minus_m_towards_the_online_network(name: str) -> None:
    """m and 1 - m swapped is a bug seen in public code: the target would follow at once."""
    part = objective(name, parameters="momentum=0.9")
    with torch.no_grad():
        for p in part.encoder.parameters():
            p.add_(1)
    before = [p.clone() for p in part.target.encoder.parameters()]
    part.after_step(progress=0.0)
    for old, new, online in zip(
        before, part.target.encoder.parameters(), part.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * online)


def test_momentum_rises_from_its_start_to_1_by_half_a_cosine() -> None:
    assert momentum_at(0.99, 0) == pytest.approx(0.99)
    assert momentum_at(0.99, 0.5) == pytest.approx(0.995)
    assert momentum_at(0.99, 1) == 1
    assert momentum_at(0.9, 0.25) == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)


def test_restart_makes_the_target_a_copy_of_the_online_network() -> None:
    part = objective("byol")
    with torch.no_grad():
        for p in part.encoder.parameters():
            p.mul_(2)
    part.restart_local()
    for target, online in zip(
        part.target.encoder.parameters(), part.encoder.parameters(), strict=True
    ):
        assert torch.equal(target, online)


def test_the_contrastive_regulariser_adds_its_weighted_loss_to_byol() -> None:
    plain, regularised = objective("byol"), objective("byol", contrastive_weight=0.5)
    regularised.inner.load_state_dict(plain.state_dict())
    batch = views()
    terms = regularised.terms(regularised.represent(batch))
    base = plain.terms(plain.represent(batch))
    torch.testing.assert_close(terms["prediction"], base["prediction"])
    assert terms["regulariser"] > 0
    assert regularised.shared().keys() == plain.shared().keys()


def test_stage_2_keeps_the_stage_1_loss_and_adds_columns_and_entropy() -> None:
    part = objective("cluster", parameters="first=simclr first-weight=2.0")
    assert isinstance(part, Cluster)
    seen = part.represent(views())
    terms = part.terms(seen)
    assert terms.keys() == {"contrast", "columns", "entropy"}
    torch.testing.assert_close(terms["contrast"], 2 * nt_xent(seen.z_a, seen.z_b, 0.5))
    assignments = part.assignments(seen.h_a)
    assert assignments.shape == (8, 4)
    torch.testing.assert_close(assignments.sum(1), torch.ones(8))


def test_stage_2_without_negatives_attracts_columns_only() -> None:
    part = objective("cluster", parameters="first=byol contrastive=false")
    terms = part.terms(part.represent(views()))
    assert terms.keys() == {"prediction", "columns", "entropy"}
    assert 0 <= terms["columns"].item() <= 4


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("simclrr", "", "did you mean 'simclr'"),
        ("simclr", "temprature=1.0", "did you mean 'temperature'"),
        ("simclr", "temperature=hot", "temperature must be float"),
        ("cluster", "first=sinclr", "did you mean 'simclr'"),
        ("cluster", "first=byol/simclr", "first objective of 'cluster' 'byol'"),
        ("cluster", "first=fedu2/cluster", "has itself as first objective"),
    ],
)
def test_mistakes_are_told_in_one_line(name: str, parameters: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        objective(name, parameters=parameters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", recipes.names())
def test_a_settled_plan_names_every_parameter_and_builds_the_same_model(name: str) -> None:
    plan = recipes.load(name).plan({"encoder": "small-convnet", "clusters": 4})
    settled = settle_parameters(plan)
    assert settle_parameters(settled) == settled == Plan.from_json(settled.to_json())
    for index, (given, written) in enumerate(zip(plan.stages, settled.stages, strict=True)):
        assert given.parameters.items() <= written.parameters.items()
        one, two = (build_stage(p, index, 1, 8, 4).state_dict() for p in (plan, settled))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_settled_plan_has_the_defaults_beside_what_was_given() -> None:
    plan = settle_parameters(recipes.load("fedsimclr").plan({"parameters": "width=16"}))
    assert plan.stages[0].parameters == {"temperature": 0.5, "hidden": 256, "width": 16}


WITHOUT_NEGATIVES = (
    "barlow-twins",
    "byol",
    "ccfc",
    "masked-image",
    "propos",
    "simsiam",
    "spectral-contrastive",
    "vicreg",
)


@pytest.mark.parametrize("name", WITHOUT_NEGATIVES)
def test_the_regulariser_can_be_added_to_every_objective_without_negatives(name: str) -> None:
    part = objective(name, contrastive_weight=0.5)
    seen = part.represent(views())
    terms, plain = part.terms(seen), part.inner.terms(seen)
    assert terms.keys() == {*plain, "regulariser"}
    assert all(torch.equal(terms[key], term) for key, term in plain.items())
    contrast = symmetric_info_nce(seen.z_a, seen.z_b, seen.t_a, seen.t_b, 0.2)
    torch.testing.assert_close(terms["regulariser"], 0.5 * contrast)


@pytest.mark.parametrize(
    ("first", "kinds"),
    [
        ("contrastive-quant/byol", ("Cluster", "ContrastiveQuantBYOL", "BYOL")),
        ("fedu2/decorrelated/simclr", ("Cluster", "Uniform", "Decorrelated", "SimCLR")),
        ("fedu2", ("Cluster", "Uniform", "BYOL")),
    ],
)
def test_stage_2_goes_around_what_goes_around_another(first: str, kinds: tuple[str, ...]) -> None:
    part = objective("cluster", parameters=f"first={first}")
    found = [part]
    while hasattr(found[-1], "inner"):
        found.append(found[-1].inner)
    assert tuple(type(one).__name__ for one in found) == kinds
    terms = part.terms(part.represent(views()))
    assert {"columns", "entropy"} < terms.keys()
    plan = recipes.load("fedcc").plan({"parameters": f"first={first}"})
    settled = settle_parameters(plan)
    assert settled.stages[0].parameters["first"] == first and settle_parameters(settled) == settled
