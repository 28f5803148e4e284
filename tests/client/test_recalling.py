"""A site looks in models for what it has taken back: it tells how many are found, and no more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from client.site import open_site
from client.storage.exclusions import Exclusions
from client.tasks import recall as looking
from client.trainer import Trainer
from client.workbench import Workshop
from common.config import recipes
from common.config.options import Plan
from common.data import ImageData, load
from common.data.identity import identities
from common.data.npz import read_npz
from common.membership import success
from common.protocol import layout
from common.protocol.messages import NEEDS_MODEL, Instruction, Reply
from common.protocol.parts import RECALLED
from common.protocol.recall import Recall
from common.protocol.taken_back import run_of
from common.solvers.landmark_spectral import LandmarkSpectral
from common.stages import build_stage
from common.utils.errors import UserError
from tests.builders.sites import CLASSES, CPU, instruction

IMAGES, GONE, MODELS = 100, 24, 5
DIGITS = load("digits", images=IMAGES + GONE)
KEPT, FORGOTTEN = DIGITS.subset(np.arange(IMAGES)), DIGITS.subset(np.arange(IMAGES, IMAGES + GONE))
PLAN = recipes.load("fedsimclr").plan(
    {"clusters": 10, "rounds": 1, "encoder": "small-convnet", "min-count": 5}
)
EXACT = recipes.load("covey-exact").plan(
    {"clusters": 10, "encoder": "noise-filters", "parameters": "landmarks=20 images=10"}
)
ABOUT = Recall("earlier", MODELS).to_text()


def site(folder: Path, gone: ImageData | None = FORGOTTEN, kept: ImageData = KEPT) -> Trainer:
    return Trainer("ward", kept, folder, Workshop(CPU), forgotten=gone)


def ask(number: int, plan: Plan = PLAN, marked: bool = True, **parts: object) -> Instruction:
    seeded = plan.model_copy(update={"seed": number})
    model = build_stage(seeded, len(plan.stages) - 1, 1, 8, 10)
    if isinstance(model, LandmarkSpectral) and marked:
        drawn = torch.Generator().manual_seed(number)
        width = model.weights.scores.in_features
        points = F.normalize(torch.randn(12, width, generator=drawn), dim=1)
        model.statistics()["landmarks"].solve({"points": points})
    shared = model.shared()
    sent = {"groups": layout.flatten(shared), "classes": CLASSES, "about": ABOUT, **parts}
    digest = layout.layout_of(shared).digest
    last = len(plan.stages) - 1
    return Instruction("recall", "run", plan.rounds, seeded, last, digest, step=number, **sent)


def told(trainer: Trainer, plan: Plan = PLAN) -> list[Reply]:
    """What it says of each model, when it has met all."""
    for number in range(1, MODELS + 1):
        trainer.handle(ask(number, plan))
    return [trainer.handle(ask(n, plan, groups={})) for n in range(1, MODELS + 1)]


def test_what_is_found_is_told_when_all_models_are_known_and_of_scores_nothing(
    tmp_path: Path,
) -> None:
    trainer = site(tmp_path)
    for number in range(1, MODELS + 1):
        reply = trainer.handle(ask(number))
        assert ("views" in reply.sums) == (number == MODELS)
    with pytest.raises(UserError, match="send the model"):
        site(tmp_path / "b").handle(ask(1, groups={}))
    allowed = {"images", *(each.name for each in RECALLED)}
    for reply in told(site(tmp_path / "c")):
        assert reply.sums.keys() <= allowed and reply.sums["taken"] == GONE
        assert reply.sums["stayed"] == 4 * GONE
        assert 0 <= reply.sums["views"] <= GONE and reply.sums["views_found"] <= GONE
        assert not (reply.groups or reply.tables or reply.vectors or reply.moments)
        assert reply.centroids is None and not reply.info
    assert NEEDS_MODEL


def test_the_same_models_give_the_same_figures(tmp_path: Path) -> None:
    one, other = ([each.sums for each in told(site(tmp_path / name))] for name in "ab")
    assert one == other


def test_a_model_that_knows_them_is_told_from_one_that_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(task, gone, stayed):
        drawn = torch.Generator().manual_seed(task.instruction.step)
        known = torch.linspace(0, 9, len(gone) + len(stayed))  # to every model
        own = known + 0.1 * torch.randn(len(known), generator=drawn)
        own[: len(gone)] += 1.0 * (task.instruction.step == 1)  # the original has had them
        yield "near", (own[: len(gone)].double(), own[len(gone) :].double())

    monkeypatch.setattr(looking, "_scores", scores)
    found = [reply.sums["near"] / GONE for reply in told(site(tmp_path))]
    assert found[0] > 0.99
    assert all(0.25 < each < 0.75 for each in found[1:])


def test_attacks_are_those_that_the_recipe_gives_reason_for(tmp_path: Path) -> None:
    found = told(site(tmp_path / "a"))[0].sums
    assert {"views", "projected"} <= found.keys() and "near" not in found  # it has no centroids
    found = told(site(tmp_path / "b"), EXACT)[1].sums
    assert {"near", "near_found"} <= found.keys() and "views" not in found
    assert found["sums"] == found["sums_same"] == 2
    with pytest.raises(UserError, match="has no landmarks"):
        site(tmp_path / "c").handle(ask(1, EXACT, marked=False))


def test_sums_that_are_not_what_was_answered_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = looking.Features.summed

    def stale(self, add):
        gram, within = real(self, add)
        return gram, within + 2.0**-28

    monkeypatch.setattr(looking.Features, "summed", stale)
    found = told(site(tmp_path), EXACT)[1].sums
    assert (found["sums"], found["sums_same"]) == (2, 1)


def test_too_few_on_either_side_are_not_looked_at(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="19 images that were taken back may be looked at"):
        site(tmp_path / "a", FORGOTTEN.subset(np.arange(19))).handle(ask(1))
    with pytest.raises(UserError, match="beside 15 that stayed"):
        site(tmp_path / "b", FORGOTTEN, KEPT.subset(np.arange(15))).handle(ask(1))
    with pytest.raises(UserError, match="no model 6 of 5"):
        site(tmp_path / "c").handle(ask(6))
    with pytest.raises(UserError, match="it takes 30 of each"):
        strict = PLAN.model_copy(update={"min_count": 30})
        site(tmp_path / "d").handle(ask(1, strict))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"of": "x"}', '{"of": 1, "models": 5}', '{"of": "x", "models": true}']
)
def test_a_message_that_does_not_say_what_it_is_about_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="does not say what is to be looked for"):
        Recall.from_text(text)


@pytest.mark.parametrize("count", [0, 3, 33, 10**9])
def test_so_many_models_are_not_looked_at(count: int) -> None:
    with pytest.raises(UserError, match=f"{count} models instead of 4 to 32"):
        Recall("x", count)


def test_a_site_looks_at_what_it_lets_be_looked_at_and_was_in_the_run(tmp_path: Path) -> None:
    spec = str(tmp_path / "data.npz")
    np.savez(spec, images=DIGITS.images)
    own = read_npz(tmp_path / "data.npz")
    assert own is not None
    exclusions = Exclusions(tmp_path, spec)

    def opened() -> Trainer:
        return open_site("ward", own, tmp_path, Workshop(CPU), exclusions=exclusions).trainer

    opened().handle(replace(instruction(PLAN, "assess", 1), run="earlier"))
    taken = identities(spec, [str(number) for number in range(GONE)])
    exclusions.add(taken, "name", unlearn=True)
    with pytest.raises(UserError, match=r"^0 images .* --may-audit"):
        opened().handle(ask(1))
    assert exclusions.add(taken, "name", audit=True) == 0
    assert all(how.unlearn and how.audit for how in exclusions.read().values())
    reply = opened().handle(ask(1))
    assert reply.sums["taken"] == GONE
    assert success((torch.ones(3), torch.zeros(3))).auc == 1.0


def test_what_an_audit_has_left_at_a_site_goes_when_the_next_run_begins(tmp_path: Path) -> None:
    spec = tmp_path / "data.npz"
    np.savez(spec, images=DIGITS.images)
    own = read_npz(spec)
    assert own is not None
    home = tmp_path / "home"
    left = ("a-without-1-seed-1", "a-without-1-audit", "b-without-2-audit-3")
    kept = ("a", "a-without-1", "study-seed-1", "c-without-1-seed-2", "a-without-1-seed-3")
    for name in (*left, *kept):
        (home / name).mkdir(parents=True)
        (home / name / "assignments.csv").touch()
    (home / "c-without-1-seed-2" / "model.covey").touch()  # it was handed over: no audit's
    exclusions = Exclusions(home, str(spec))
    trainer = open_site("ward", own, home, Workshop(CPU), exclusions=exclusions).trainer
    trainer.handle(replace(instruction(PLAN, "assess", 1), run="a-without-1-seed-3"))
    there = {path.name for path in home.iterdir() if path.is_dir()}
    assert there >= set(kept) and not there & set(left)
    trainer.handle(replace(instruction(PLAN, "assess", 1), run="next"))
    assert not (home / "a-without-1-seed-3").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"of": 1}'])
def test_a_message_that_does_not_say_of_which_run_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="of which run images were taken back"):
        run_of(text)
