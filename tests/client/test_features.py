"""Features are computed once, are of the image alone, and take no more memory than they may."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from client.features import STEP, Features, rounded
from client.storage.features import FeatureStore
from client.workbench import Workbench, Workshop
from common.data import ImageData, load
from common.protocol import layout
from common.protocol.messages import Instruction
from common.stages import build_stage
from tests.builders.runs import plan

CPU = torch.device("cpu")
DIGITS = load("digits", images=90)
PLAN = plan("covey-exact", encoder="noise-filters", rounds=0)


def bench(the_plan=PLAN) -> Workbench:
    digest = layout.layout_of(build_stage(the_plan, 0, 1, 8, 10).shared()).digest
    asked = Instruction("moments", "run", 0, the_plan, layout=digest)
    return Workshop(CPU).bench(asked, 1, 8, "digits")


def features(folder: Path, data: ImageData = DIGITS, **store: int) -> Features:
    images = torch.from_numpy(data.images)
    return Features(bench(), PLAN, images, FeatureStore(folder, data, **store))


def joined(found: Features) -> list[Tensor]:
    a, b = (torch.cat(parts) for parts in zip(*found.views(), strict=True))
    c, d = (torch.cat(parts) for parts in zip(*found.other_views(), strict=True))
    return [torch.cat(list(found.plain())), a, b, c, d]


def test_an_images_features_and_views_do_not_depend_on_who_else_is_there(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(90)
    whole = joined(features(tmp_path))
    for some in (order[:50], order[50:]):
        few = joined(features(tmp_path, DIGITS.subset(some)))
        assert all(torch.equal(part, of_all[some]) for part, of_all in zip(few, whole, strict=True))
    assert len({part.numpy().tobytes() for part in whole}) == 5


def test_of_images_that_may_leave_all_views_are_kept_and_are_the_same(tmp_path: Path) -> None:
    found = features(tmp_path, keep_sums=True)
    whole = joined(features(tmp_path))
    assert all(map(torch.equal, joined(found), whole))
    order = np.arange(10, 90)
    store = found.store.followed_by(DIGITS.subset(order))
    left = Features(found.bench, PLAN, torch.from_numpy(DIGITS.images[order]), store)
    left.bench.model.encoder.forward = None  # nothing is computed again
    assert all(torch.equal(part, of[order]) for part, of in zip(joined(left), whole, strict=True))


def test_they_are_what_the_encoder_says_of_plain_images_and_of_views(tmp_path: Path) -> None:
    found = features(tmp_path)
    with torch.no_grad():
        plain = found.bench.model.encoder(torch.from_numpy(DIGITS.images).float() / 255)
    h = torch.cat(list(found.plain()))
    assert torch.equal(h, rounded(plain) * STEP)
    assert ((h.norm(dim=1) <= 1) & (h.norm(dim=1) > 0.998)).all()
    cosines = [(h * part).sum(1).mean() for part in joined(found)[1:]]
    assert min(cosines) > 0.8 and max(cosines) < 0.99


def counting(found: Features, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward of the encoder sees, from now on."""
    seen: list[int] = []
    encoder, forward = found.bench.model.encoder, found.bench.model.encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda x: (seen.append(len(x)), forward(x))[1])
    return seen


def test_each_image_is_forwarded_once_for_all_exchanges(tmp_path: Path, monkeypatch) -> None:
    found = features(tmp_path)
    seen = counting(found, monkeypatch)
    for _ in range(3):
        list(found.plain()), list(found.views()), list(found.whole_views())
    assert sum(seen) == 3 * 90


def test_another_encoder_seed_or_view_is_computed_anew(tmp_path: Path, monkeypatch) -> None:
    found = features(tmp_path)
    list(found.views())
    seen = counting(found, monkeypatch)
    list(replace(found, plan=PLAN.model_copy(update={"seed": 7})).views())
    assert sum(seen) == 2 * 90
    with torch.no_grad():
        next(found.bench.model.encoder.buffers()).mul_(0.5)
    list(found.views())
    assert sum(seen) == 4 * 90


def test_what_is_large_lies_in_a_file_without_a_name_and_has_the_same_bits(tmp_path: Path) -> None:
    kept, spilled = features(tmp_path), features(tmp_path, in_memory=1000)
    for one, other in zip(joined(kept), joined(spilled), strict=True):
        assert torch.equal(one, other)
    rows = spilled.store.rows("plain", spilled._key("plain"), 672, made=lambda: iter(()))
    assert isinstance(rows, np.memmap) and not rows.flags.writeable
    assert list(tmp_path.iterdir()) == []


def test_features_are_of_unit_length_but_for_the_cut(tmp_path: Path) -> None:
    h = torch.randn(50, 200, generator=torch.Generator().manual_seed(0))
    cut = rounded(h * 100).double() * STEP
    off = torch.nn.functional.normalize(h.double(), dim=1) - cut
    assert off.abs().max() < STEP and (cut.norm(dim=1) <= 1).all()
    assert not rounded(torch.zeros(2, 5)).any()
