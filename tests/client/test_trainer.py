"""What a site answers, and what it never lets out."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from client.dataset import shuffled_batches
from client.storage.ledger import parts
from client.tasks import train as training
from client.trainer import Trainer
from client.workbench import Workshop, pick_device
from common.clustering.centroids import Centroids
from common.config import recipes
from common.data import load
from common.objectives import NAMES
from common.protocol import layout
from common.protocol.messages import NEEDS_MODEL, Instruction, Reply, decode, encode
from common.utils.errors import UserError
from tests.builders.sites import CLASSES, CPU, instruction, trainer
from tests.builders.sites import site as opened


def plan(recipe="fedsimclr", **options):
    settings = {"clusters": 10, "rounds": 2, "local-epochs": 1, "batch-size": 32}
    return recipes.load(recipe).plan(settings | options)


def ask(kind="train", round_number=1, the_plan=None, **parts) -> Instruction:
    return instruction(the_plan or plan(), kind, round_number, **parts)


def test_training_changes_every_group_and_counts_the_training_images(tmp_path: Path) -> None:
    instruction = ask()
    reply = trainer(tmp_path).handle(instruction)
    assert reply.examples == 80  # of 100, a fifth is kept for evaluation
    assert reply.groups.keys() == instruction.groups.keys()
    for name, array in reply.groups.items():
        assert not np.array_equal(array, instruction.groups[name])
    assert reply.sums["loss.loss"] / reply.sums["seen"] > 0


def test_the_same_instruction_gives_the_same_bits(tmp_path: Path) -> None:
    instruction = ask()
    first, second = (trainer(tmp_path / n).handle(instruction) for n in "ab")
    assert encode(replace(first, seconds={}).to_record()) == encode(
        replace(second, seconds={}).to_record()
    )


@pytest.mark.parametrize("recipe", ["fedbyol", "fedsimclr"])
def test_a_round_asked_for_again_gives_the_same_bits(recipe: str, tmp_path: Path) -> None:
    """The server was killed while the site trained: the site must not train on from there."""
    site = trainer(tmp_path)
    site.handle(ask(the_plan=plan(recipe)))
    again = [site.handle(ask(round_number=2, the_plan=plan(recipe))) for _ in range(2)]
    for name in again[0].groups:
        assert np.array_equal(again[0].groups[name], again[1].groups[name])


def test_a_target_network_stays_at_the_site_and_lives_on(tmp_path: Path) -> None:
    site = trainer(tmp_path)
    reply = site.handle(ask(the_plan=plan("fedbyol")))
    assert set(reply.groups) == {
        "encoder", "encoder.buffers", "projector", "projector.buffers",
        "predictor", "predictor.buffers",
    }  # fmt: skip
    saved = list((tmp_path / "run").glob("state-*.safetensors"))
    assert len(saved) == 1
    fresh = trainer(tmp_path / "elsewhere").handle(ask(round_number=2, the_plan=plan("fedbyol")))
    lived = site.handle(ask(round_number=2, the_plan=plan("fedbyol")))
    assert not np.array_equal(fresh.groups["encoder"], lived.groups["encoder"])


def test_local_batchnorm_statistics_are_not_sent(tmp_path: Path) -> None:
    reply = trainer(tmp_path).handle(ask(the_plan=plan(batchnorm="local")))
    assert set(reply.groups) == {"encoder", "projector"}


@pytest.mark.parametrize("kind", ["prepare", "train"])
def test_a_round_begun_again_finds_the_running_statistics_it_found_the_first_time(
    kind: str, tmp_path: Path
) -> None:
    """The server was killed after the site had trained: those of the round itself are taken back,
    whichever message the round begins with."""
    options = {"objective": "spectral-contrastive", "batchnorm": "local"}
    site, the_plan = trainer(tmp_path), plan(**options)
    site.handle(ask(the_plan=the_plan))
    first = site.handle(ask(kind, 2, the_plan))
    site.handle(ask("train", 2, the_plan))
    again = site.handle(ask(kind, 2, the_plan))
    for name, array in first.groups.items():
        assert np.array_equal(again.groups[name], array)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("objective", NAMES)
def test_sites_that_share_a_workbench_leave_nothing_in_it_for_each_other(
    objective: str, cut: bool, tmp_path: Path, monkeypatch
) -> None:
    """Not even where a round ended in the middle."""
    options = {"objective": objective, "encoder": "small-convnet", "merge": "fedema"}
    instruction = ask(the_plan=plan(**options, **{"batch-size": 16}))
    shared = Workshop(CPU)
    first = Trainer("other", load("digits", images=64, seed=1), tmp_path / "other", shared)
    if cut:
        views = training.view_batches

        def failing(*args):
            yield from islice(views(*args), 2)
            raise UserError("no power")

        with monkeypatch.context() as patched, pytest.raises(UserError, match="no power"):
            patched.setattr(training, "view_batches", failing)
            first.handle(replace(instruction, round=2))
    else:
        first.handle(replace(instruction, round=2))
    after, alone = (
        Trainer("ward", load("digits", images=48), tmp_path / name, workshop).handle(instruction)
        for name, workshop in (("after", shared), ("alone", Workshop(CPU)))
    )
    assert after.sums == alone.sums
    for name, array in alone.groups.items():
        assert array.tobytes() == after.groups[name].tobytes(), name
    state = "run/state-000001.safetensors"
    assert (tmp_path / "after" / state).read_bytes() == (tmp_path / "alone" / state).read_bytes()


def test_what_came_to_prepare_a_round_is_not_needed_again_to_train_it(tmp_path: Path) -> None:
    the_plan = plan("covey", rounds="0,2,0")
    asked = ask("prepare", the_plan=the_plan)
    site = trainer(tmp_path / "a")
    moment = site.handle(asked).groups
    assert moment.keys() == {"moment"}
    groups = {**asked.groups, **moment}
    whole = replace(asked, kind="train", groups=groups, state=layout.digest_of(groups))
    lean = replace(whole, groups=moment)
    one, two = site.handle(lean), trainer(tmp_path / "b").handle(whole)
    for name, array in two.groups.items():
        assert array.tobytes() == one.groups[name].tobytes(), name
    for forgot in (trainer(tmp_path / "c"), site):
        if forgot is site:  # it has prepared another round since
            other = {name: array + 1 for name, array in asked.groups.items()}
            site.handle(replace(asked, groups=other))
        with pytest.raises(UserError, match=NEEDS_MODEL):
            forgot.handle(lean)
    with pytest.raises(UserError, match="the message has no model"):
        site.handle(replace(ask(), groups={}))  # nothing is prepared for it


def test_embeddings_are_remembered_for_the_stage_that_they_are_of(tmp_path: Path) -> None:
    """Two stages of one state, in spaces of the same width."""
    options = {"rounds": "1,0", "embedding": "encoder,projector", "parameters": "width=256"}
    the_plan = recipes.load("fedkmeans").plan({"clusters": 10, **options})
    first = ask("assess", the_plan=the_plan, state="0123456789abcdef")
    site = trainer(tmp_path)
    before = site.handle(first)
    second = site.handle(replace(first, stage=1))
    alone = trainer(tmp_path / "fresh").handle(replace(first, stage=1))
    assert np.array_equal(second.moments["gram"], alone.moments["gram"])
    assert not np.array_equal(second.moments["gram"], before.moments["gram"])


def test_nothing_that_is_sent_has_one_row_per_image(tmp_path: Path) -> None:
    """Labels, images and embeddings stay: no array is as long as the site's images."""
    images = 97  # a size that nothing else has
    for kind in ("train", "assess"):
        reply = trainer(tmp_path, images).handle(ask(kind))
        for name, shape in parts(reply).items():
            assert images not in shape, name
        assert "labels" not in str(reply.to_record().keys())


def test_centroids_of_few_images_are_not_sent(tmp_path: Path) -> None:
    reply = trainer(tmp_path, images=30).handle(ask(the_plan=plan(**{"min-count": 8})))
    assert reply.centroids.counts.min() >= 8
    assert reply.centroids.counts.sum() == 30
    few = trainer(tmp_path, images=4).handle(ask(the_plan=plan(**{"min-count": 8})))
    assert few.centroids is None
    assert few.groups  # but it trains with the others


def test_a_site_sends_nothing_of_fewer_images_than_its_own_bound_whatever_a_plan_says(
    tmp_path: Path,
) -> None:
    for bound in (1, 9):
        data = load("digits", images=60)
        site = Trainer("ward", data, tmp_path / f"{bound}", Workshop(CPU), min_count=bound)
        reply = site.handle(ask("assess", the_plan=plan(**{"min-count": 1})))
        fewest = min(
            reply.centroids.counts.min(), *filter(None, reply.moments["cross"][-1].tolist())
        )
        assert (fewest >= 9) == (bound == 9)


def test_class_moments_of_few_images_are_not_sent(tmp_path: Path) -> None:
    reply = trainer(tmp_path, images=60).handle(ask("assess", the_plan=plan(**{"min-count": 7})))
    counts = reply.moments["cross"][-1]
    assert set(counts) <= {0.0, *map(float, range(7, 60))}
    assert 0 in counts


def test_a_site_without_labels_sends_sizes_only(tmp_path: Path) -> None:
    data = load("digits", images=60)
    unlabelled = type(data)(data.images, None, (), data.names, data.kind)
    site = Trainer("ward", unlabelled, tmp_path, Workshop(CPU))
    reply = site.handle(ask("assess"))
    assert reply.tables["local"].shape[1] == 1
    assert reply.moments["cross"].shape[1] == 0
    assert "knn_correct" not in reply.sums


def test_the_score_counts_what_the_probe_gets_right(tmp_path: Path) -> None:
    site = trainer(tmp_path)
    assessed = site.handle(ask("assess"))
    width = len(assessed.moments["gram"])
    constant = np.zeros((width, 10), np.float32)
    constant[-1, 3] = 1  # calls every image a 3
    found = assessed.centroids.points
    centroids = Centroids(np.resize(found, (10, found.shape[1])), np.ones(10, int))
    reply = site.handle(ask("score", centroids=centroids, probe=constant))
    own = site.holdings.of(plan()).dataset(plan(), CLASSES)
    assert reply.sums["probe_correct"] == (own.labels[own.held] == 3).sum()
    assert reply.tables["centroids"].sum() == 100
    assert (tmp_path / "run" / "assignments.csv").read_text().startswith("image,cluster\n")


def test_no_image_is_dropped_and_no_batch_has_one_image() -> None:
    """A dropped last batch is a bug seen in public code."""
    for n in (2, 3, 31, 32, 33, 65, 97):
        batches = list(shuffled_batches(n, 32, torch.Generator().manual_seed(0)))
        assert sorted(torch.cat(batches).tolist()) == list(range(n))
        assert all(2 <= len(batch) <= 33 for batch in batches)


def test_a_server_with_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the one that this site builds") as caught:
        trainer(tmp_path).handle(replace(ask(), layout="0123456789abcdef"))
    assert "\n" not in str(caught.value)


def test_a_site_too_small_to_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too few"):
        trainer(tmp_path, images=1)


def test_an_impossible_device_is_one_line() -> None:
    for name in ("cuda:99", "abacus"):
        with pytest.raises(UserError, match=f"device '{name}'"):
            pick_device(name)


def test_the_ledger_says_what_left(tmp_path: Path) -> None:
    site = opened(tmp_path)
    answer = site.handle(encode(ask().to_record()))
    reply = Reply.from_record(decode(answer))
    (line,) = map(json.loads, (tmp_path / "left.jsonl").read_text().splitlines())
    assert line["bytes"] == len(answer)
    assert line["parts"]["parameters of encoder"] == [len(reply.groups["encoder"])]
    assert line["kind"] == "train"


@pytest.mark.parametrize("run", ["../../elsewhere", "/etc", "a/b", "..", ".hidden", "", "a\nb"])
def test_a_server_cannot_choose_a_path_at_the_site(run: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a plain name"):
        trainer(tmp_path / "site").handle(replace(ask(), run=run))
    assert not list(tmp_path.rglob("state-*"))
