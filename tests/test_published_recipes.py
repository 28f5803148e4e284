"""The published protocols are what their papers' code says, and each of them runs.

Nobody has run them at full scale here. On a slice they run with the same objective, aggregation,
merge rule, optimiser and schedule, and narrow heads; one of them with its own network, too.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.config import recipes
from common.config.checks import check_plan
from common.config.options import Plan
from common.data.partition import make_partition
from common.models.encoders import small_convnet
from common.objectives import build_objective
from common.objectives.base import Batch
from common.utils.errors import UserError
from deploy.engines.runs import new_folder
from deploy.engines.simulate import simulate
from server import app
from tests.builders.records import events

ROOT = Path(__file__).parents[1]
NAMES = [name for name in recipes.names() if name.startswith(recipes.PUBLISHED)]
FEDEMA = (100, 5, 5, 128, "p-skew(1.0)", 1.0)
PROTOCOLS = {  # rounds, local epochs, sites, batch size, partition, participation
    "fedema-cifar10": FEDEMA,
    "fedema-cifar100": FEDEMA,
    "fedbyol-cifar10": FEDEMA,
    "fedu-cifar10": FEDEMA,
    "fedsimclr-cifar10": FEDEMA,
    "fedmoco-cifar10": FEDEMA,
    "fedsimsiam-cifar10": FEDEMA,
    "orchestra-cifar10": (101, 10, 100, 16, "dirichlet(0.1)", 0.5),  # 1 + 100 rounds
    "fedx-cifar10": (100, 10, 10, 128, "dirichlet(0.5)", 1.0),
}
SLICE = {
    **{"dataset": "digits", "images": "120", "sites": "3", "encoder": "small-convnet"},
    **{"rounds": "1", "local-epochs": "1", "batch-size": "16"},
}
HEADS = {  # the same heads, but narrow
    "orchestra": "hidden=32 width=16 local-clusters=4 memory=32",
    "simsiam": "hidden=32 width=16 bottleneck=32",
    "moco-v2": "hidden=32 width=16 queue=64",
}


def plan_of(name: str, **options: str) -> Plan:
    return recipes.load(f"{recipes.PUBLISHED}{name}").plan(options)


def test_there_is_a_protocol_for_each_published_recipe_and_no_other() -> None:
    assert sorted(NAMES) == sorted(recipes.PUBLISHED + name for name in PROTOCOLS)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_published_recipe_has_its_papers_rounds_sites_batch_and_partition(name: str) -> None:
    plan = plan_of(name)
    check_plan(plan)
    (stage,) = plan.stages
    assert PROTOCOLS[name] == (
        *(stage.rounds, stage.local_epochs, plan.sites, stage.batch_size),
        *(plan.partition, plan.participation),
    )
    assert (plan.dataset, plan.encoder, stage.optimiser) == (
        name.rpartition("-")[2],
        "resnet18",
        "sgd",
    )
    assert (plan.images, plan.side, plan.size_skew, plan.normalisation) == (0, 0, 0, "batch")
    assert stage.schedule == ("cosine" if PROTOCOLS[name] == FEDEMA else "constant")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_number_of_a_published_recipe_says_where_it_is_from(name: str) -> None:
    lines = (recipes.FOLDER / recipes.PUBLISHED / f"{name}.toml").read_text().splitlines()
    above = ""
    for line in lines:
        if re.search(r"= (\d|true|false|\"(resnet|p-skew|dirichlet|sgd|cosine|cifar))", line):
            said = line.partition("#")[2] or above
            assert re.search(r"code|ours|likewise", said), line
        above = f"{above} {line}" if line.startswith("#") else above if "rate" in line else ""


def test_the_page_has_the_command_of_each_published_recipe() -> None:
    page = (ROOT / "docs" / "researcher" / "published.md").read_text()
    commands = re.findall(r"`covey simulate (\S+)`", page)
    assert sorted(commands) == sorted(NAMES)


@pytest.mark.parametrize(("classes", "each"), [(10, 2), (100, 20)])
def test_complete_skew_over_five_sites_is_two_classes_of_ten_or_twenty_of_a_hundred(
    classes: int, each: int
) -> None:
    labels = np.random.default_rng(0).permutation(np.arange(50_000) % classes)
    sites = make_partition(labels, plan_of("fedema-cifar10").partition, sites=5, seed=0).sites
    held = [set(labels[site]) for site in sites]
    assert [len(site) for site in sites] == [10_000] * 5
    assert [len(found) for found in held] == [each] * 5
    assert set.union(*held) == set(range(classes))


def theirs_byol(model: torch.nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """Both directions' 2 - 2 cos, summed."""
    h_a, h_b = (model.projector(model.encoder(x)) for x in (a, b))
    t_a, t_b = (model.target(x).detach() for x in (a, b))
    directions = ((model.predictor(h_a), t_b), (model.predictor(h_b), t_a))
    return sum((2 - 2 * F.cosine_similarity(p, t)).mean() for p, t in directions)


def theirs_simsiam(model: torch.nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """Both directions' -cos, halved and summed."""
    h_a, h_b = (model.projector(model.encoder(x)) for x in (a, b))
    directions = ((model.predictor(h_a), h_b.detach()), (model.predictor(h_b), h_a.detach()))
    return sum(-F.cosine_similarity(p, t).mean() / 2 for p, t in directions)


def theirs_simclr(model: torch.nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """The mean over 2N anchors of the cross-entropy at temperature .07."""
    z = F.normalize(torch.cat([model.projector(model.encoder(x)) for x in (a, b)]), dim=1)
    logits = (z @ z.T / 0.07).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(a)))


def theirs_moco(model: torch.nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """Both directions' cross-entropies at temperature .2, summed."""
    q_a, q_b, k_a, k_b = (
        F.normalize(x, dim=1)
        for x in (
            *(model.projector(model.encoder(x)) for x in (a, b)),
            model.target(a),
            model.target(b),
        )
    )
    total = torch.zeros(())
    for q, k in ((q_a, k_b), (q_b, k_a)):
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ model.queue.keys.T], dim=1) / 0.2
        total = total + F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))
    return total


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("fedbyol-cifar10", theirs_byol),
        ("fedsimsiam-cifar10", theirs_simsiam),
        ("fedsimclr-cifar10", theirs_simclr),
        ("fedmoco-cifar10", theirs_moco),
    ],
)
def test_the_steps_are_those_of_the_authors_loss_rate_and_weight_decay(
    name: str, theirs: Callable[[torch.nn.Module, Tensor, Tensor], Tensor]
) -> None:
    (stage,) = plan_of(name, parameters="hidden=8 width=4").stages
    chance = torch.Generator().manual_seed(0)
    weights = []
    for published in (False, True):
        torch.manual_seed(0)
        model = build_objective(stage, small_convnet(1, 8), 10).eval()
        if "moco" in name:
            keys = torch.randn(len(model.queue.keys), 4, generator=chance.manual_seed(1))
            model.queue.push(F.normalize(keys, dim=1), torch.arange(6, 6 + len(keys)))
        trained = [p for p in model.parameters() if p.requires_grad]
        rate, decay = (0.032, 5e-4) if published else (stage.learning_rate, stage.weight_decay)
        optimiser = torch.optim.SGD(trained, lr=rate, momentum=0.9, weight_decay=decay)
        for step in range(3):
            a, b = torch.rand(2, 6, 1, 8, 8, generator=chance.manual_seed(step))
            if published:
                loss = theirs(model, a, b)
            else:
                seen = model.represent(Batch(a, b, torch.arange(6), chance))
                loss = sum(model.terms(seen).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        weights.append(torch.nn.utils.parameters_to_vector(trained).detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_published_recipe_runs_on_a_slice(name: str, tmp_path: Path) -> None:
    plan = plan_of(name)
    heads = HEADS.get(plan.stages[0].objective, "hidden=32 width=16")
    # Orchestra's first round only sets up prototypes; a site merges from its second round on.
    rounds = "1" if plan.stages[0].merge == "replace" and "orchestra" not in name else "2"
    small = plan_of(name, **SLICE | {"rounds": rounds, "parameters": heads})
    simulate(small, tmp_path / "run")
    done = events(tmp_path / "run", "round")
    assert len(done) == int(rounds)
    assert len(done[0]["answered"]) == math.ceil(3 * plan.participation)
    assert all(math.isfinite(loss) and loss != 0 for loss in done[-1]["loss"].values())
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


def test_fedema_runs_with_its_own_network_on_colour_images(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (36, 3, 32, 32), np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(36) % 3)
    short = {"sites": "3", "rounds": "1", "local-epochs": "1", "batch-size": "8"}
    short["parameters"] = "hidden=64 width=32"
    plan = plan_of("fedema-cifar10", dataset=str(tmp_path / "few.npz"), **short)
    simulate(plan, tmp_path / "run")
    (done,) = events(tmp_path / "run", "round")
    assert len(done["answered"]) == 3 and 0 < done["loss"]["loss"] < 4
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [site["examples"] for site in run["sites"].values()] == [12] * 3


def test_a_runs_folder_is_one_folder(tmp_path: Path, monkeypatch) -> None:
    """The slash of the name does not get into the path."""
    made = new_folder(tmp_path, NAMES[0], None)
    assert made.parent == tmp_path and made.name.endswith(NAMES[0].replace("/", "-"))
    monkeypatch.setenv("COVEY_HOME", str(tmp_path))
    for recipe in (NAMES[0], str(tmp_path / "mine.toml")):
        assert app._run_folder({"recipe": recipe}).parent == tmp_path / "runs"


def test_a_name_without_its_folder_is_told_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'published/fedema-cifar10'"):
        recipes.load("fedema-cifar10")
    with pytest.raises(UserError, match="did you mean 'published/fedx-cifar10'"):
        recipes.load("published/fedx-cifar")
    with pytest.raises(UserError, match="unknown recipe"):
        recipes.load("published/../fedbyol")
