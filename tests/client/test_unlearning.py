"""A site unlearns what it has taken back: by these images, for this alone."""

import gc
from dataclasses import replace
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
import torch

from client.dataset import digests_of
from client.site import open_site
from client.storage.exclusions import Exclusions
from client.storage.taken_part import TakenPart
from client.tasks import unlearn as unlearning
from client.trainer import Trainer
from client.workbench import Workshop
from common.config import recipes
from common.data import ImageData, load
from common.data.identity import identities
from common.data.npz import read_npz
from common.models.heads import mlp
from common.protocol.messages import Instruction, Reply, encode
from common.unlearning import UNLEARNING, build_unlearning, to_text
from common.utils.errors import UserError
from tests.builders.sites import CPU, instruction

IMAGES, GONE = 100, 20
DIGITS = load("digits", images=IMAGES + GONE)
KEPT, FORGOTTEN = DIGITS.subset(np.arange(IMAGES)), DIGITS.subset(np.arange(IMAGES, IMAGES + GONE))
PLAN = recipes.load("fedsimclr").plan(
    {"clusters": 10, "rounds": 2, "local-epochs": 1, "batch-size": 16}
)


def site(folder: Path, forgotten: ImageData | None = FORGOTTEN) -> Trainer:
    return Trainer("ward", KEPT, folder, Workshop(CPU), forgotten=forgotten)


def ask(method: str = "contrastive-unlearning", kind: str = "unlearn", **given) -> Instruction:
    how = to_text(build_unlearning(method, given), "earlier") if kind == "unlearn" else ""
    return instruction(PLAN, kind, 1, about=how)


def bits(reply: Reply) -> bytes:
    return encode(replace(reply, seconds={}).to_record())


@pytest.mark.parametrize("method", UNLEARNING)
def test_the_same_message_gives_the_same_bits_and_another_model(
    method: str, tmp_path: Path
) -> None:
    asked = ask(method)
    first, second = (site(tmp_path / name).handle(asked) for name in "ab")
    assert bits(first) == bits(second)
    assert not np.array_equal(first.groups["encoder"], asked.groups["encoder"])
    assert first.sums == {"images": IMAGES} and not first.tables and first.centroids is None


@pytest.mark.parametrize("kind", ["train", "assess", "hello"])
def test_forgotten_images_take_part_in_nothing_but_this(kind: str, tmp_path: Path) -> None:
    asked = ask(kind=kind)
    with_them, without = site(tmp_path / "a"), site(tmp_path / "b", None)
    with_them.handle(ask())
    assert bits(with_them.handle(asked)) == bits(without.handle(asked))


def test_no_forgotten_image_is_among_the_retained_and_each_step_meets_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[tuple[list[int], list[int]]] = []
    original = unlearning._Unlearner._loss

    def watched(self, objective, labels, gone, kept):
        met.append((gone.tolist(), kept.tolist()))
        return original(self, objective, labels, gone, kept)

    monkeypatch.setattr(unlearning._Unlearner, "_loss", watched)
    monkeypatch.setattr(unlearning._Unlearner, "_are_as_unseen", lambda *_: False)
    site(tmp_path).handle(ask(epochs=2, retained=4))
    trained = IMAGES - IMAGES // 5
    assert {row for gone, _ in met for row in gone} == set(range(trained, trained + GONE))
    assert all(max(kept) < trained for _, kept in met)
    batches = [frozenset(kept) for _, kept in met]
    assert len(set(batches)) == len(batches) == 2 * 2 * 4
    one_pass = trained // len(met[0][1])
    assert len(frozenset().union(*batches[:one_pass])) == trained


def test_the_passes_end_when_they_are_no_more_alike_than_unseen_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[bool] = []
    for enough in (False, True):
        monkeypatch.setattr(
            unlearning._Unlearner, "_are_as_unseen", lambda *_, e=enough: passes.append(e) or e
        )
        site(tmp_path / str(enough)).handle(ask(epochs=3))
    assert passes == [False, False, False, True]


def test_running_statistics_take_no_forgotten_image_in() -> None:
    model = mlp(4, 8, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with unlearning.statistics_as_they_are(model):
        model(torch.randn(9, 4))
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert all(name.endswith("num_batches_tracked") for name in changed)
    model(torch.randn(9, 4))
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert any(name.endswith("running_mean") for name in changed)


@pytest.mark.parametrize("count", [0, 4])
def test_too_few_to_be_told_of_alone_are_not_unlearned(count: int, tmp_path: Path) -> None:
    few = FORGOTTEN.subset(np.arange(count)) if count else None
    with pytest.raises(UserError, match=f"{count} images were given .* at least 5"):
        site(tmp_path, few).handle(ask())


def test_what_a_site_has_not_let_be_unlearned_is_not(tmp_path: Path) -> None:
    spec = str(tmp_path / "data.npz")
    np.savez(spec, images=DIGITS.images)
    own = read_npz(tmp_path / "data.npz")
    assert own is not None
    exclusions = Exclusions(tmp_path, spec)
    images = identities(spec, [str(number) for number in range(IMAGES, IMAGES + GONE)])
    exclusions.add(images, "name")
    trainer = open_site("ward", own, tmp_path, Workshop(CPU), exclusions=exclusions).trainer
    with pytest.raises(UserError, match="0 images were given to be unlearned"):
        trainer.handle(ask())
    TakenPart(tmp_path / "earlier").add(digests_of(own.images))
    assert exclusions.add(images[:10], "name", unlearn=True) == 0
    found = trainer.holdings.taken_back(PLAN, TakenPart(tmp_path / "earlier"), "unlearn")
    assert found.numpy().tobytes() == own.images[100:110].tobytes()
    left, taken = (own.subset(np.arange(*span)) for span in ((0, 100), (100, 110)))
    other = Trainer("ward", left, tmp_path / "b", Workshop(CPU), forgotten=taken)
    assert bits(trainer.handle(ask())) == bits(other.handle(ask()))


def withdrawn(spec: Path, home: Path, *names: int) -> None:
    exclusions = Exclusions(home, str(spec))
    exclusions.add(identities(str(spec), [str(each) for each in names]), "name", unlearn=True)


def opened(spec: Path, home: Path) -> Trainer:
    own = read_npz(spec)
    assert own is not None
    exclusions = Exclusions(home, str(spec))
    return open_site("ward", own, home, Workshop(CPU), exclusions=exclusions).trainer


def test_of_what_it_has_marked_a_site_unlearns_what_was_in_the_run_that_forgets(
    tmp_path: Path,
) -> None:
    spec = tmp_path / "data.npz"
    np.savez(spec, images=DIGITS.images[:110])
    withdrawn(spec, tmp_path, 0, 1, 2, 3, 4)  # asked for before that run, of another one
    trainer = opened(spec, tmp_path)
    trainer.handle(replace(ask(kind="assess"), run="earlier"))
    withdrawn(spec, tmp_path, *range(100, 110))
    np.savez(spec, images=DIGITS.images[:120])
    withdrawn(spec, tmp_path, *range(110, 115))  # came after it
    trainer = opened(spec, tmp_path)
    found = trainer.holdings.taken_back(PLAN, TakenPart(tmp_path / "earlier"), "unlearn")
    assert found.numpy().tobytes() == DIGITS.images[100:110].tobytes()
    whole = trainer.handle(ask())
    own = read_npz(spec)
    assert own is not None
    kept = own.subset(np.array([*range(5, 100), *range(115, 120)]))
    taken = own.subset(np.arange(100, 110))
    other = Trainer("ward", kept, tmp_path / "b", Workshop(CPU), forgotten=taken)
    assert bits(whole) == bits(other.handle(ask()))


def test_a_site_that_does_not_know_who_was_in_the_run_unlearns_nothing(tmp_path: Path) -> None:
    spec = tmp_path / "data.npz"
    np.savez(spec, images=DIGITS.images)
    withdrawn(spec, tmp_path, *range(10))
    with pytest.raises(UserError, match="does not know which of its images were in the run earl"):
        opened(spec, tmp_path).handle(ask())
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "taken-part.bin").write_bytes(b"123")
    with pytest.raises(UserError, match="is damaged"):
        opened(spec, tmp_path).handle(ask())


def test_the_note_of_who_took_part_keeps_no_image_in_memory(tmp_path: Path) -> None:
    spec = tmp_path / "data.npz"
    np.savez(spec, images=DIGITS.images)
    trainer = opened(spec, tmp_path)
    trainer.handle(ask(kind="assess"))
    held = ref(trainer.images_for(PLAN))
    assert held() is not None
    withdrawn(spec, tmp_path, 0)
    trainer.images_for(PLAN)
    gc.collect()
    assert held() is None


@pytest.mark.parametrize("of", ["../up", "/etc", "", "forgotten.jsonl"])
def test_the_run_that_forgets_is_no_path(of: str, tmp_path: Path) -> None:
    spec = tmp_path / "data.npz"
    np.savez(spec, images=DIGITS.images)
    withdrawn(spec, tmp_path, *range(10))
    asked = replace(ask(), about=to_text(build_unlearning("gradient-ascent", {}), of))
    with pytest.raises(UserError, match="the server calls its run"):
        opened(spec, tmp_path).handle(asked)


def test_another_message_brings_no_method(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train: it brings what only unlearn"):
        site(tmp_path).handle(replace(ask(kind="train"), about="{}"))
