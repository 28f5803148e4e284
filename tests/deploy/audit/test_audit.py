"""An audit of real runs: of a small federation of digits, with and without some images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from common.utils.errors import UserError
from deploy.audit.audit import audit, check_audited
from deploy.audit.found import Audit, Counts
from deploy.audit.material import alike, material
from deploy.audit.report import as_json, write_report
from deploy.audit.same import digest
from deploy.engines.simulate import simulate
from tests.builders.audits import GONE, IMAGES, leave_out, pair
from tests.builders.browser import browser
from tests.builders.pages import ROOT
from tests.builders.runs import plan


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return pair(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def audited(runs: tuple[Path, Path]) -> Audit:
    return audit(*runs, references=2)


def test_the_run_that_never_had_them_has_the_same_bits(audited: Audit) -> None:
    assert audited.verdict.outcome == "exact"
    assert {each.name for each in audited.published} >= {"centroids", "projector"}
    assert all(each.same for each in audited.published)
    assert any(each.original != each.forgotten for each in audited.published)


def test_sums_less_the_forgotten_are_the_others_sums(audited: Audit) -> None:
    assert len(audited.sums) == 2
    assert all(each.same and each.original != each.forgotten for each in audited.sums)


def test_what_is_measured(audited: Audit) -> None:
    assert [each.name for each in audited.attacks] == ["landmarks"]
    keys = {each.key for each in audited.figures}
    assert keys == {"nmi", "acc", "knn", "linear", "agreement"}  # no class is gone
    assert all(len(each.without) == 2 for each in audited.figures)
    assert audited.cost.seconds > 0 < audited.cost.bytes_anew


def test_images_of_an_audit(runs: tuple[Path, Path], audited: Audit) -> None:
    found = material(*runs)
    assert audited.counts == Counts.of(found)
    assert len(found.gone) == GONE
    assert len(found.kept) == IMAGES - GONE
    assert sum(found.counts.values()) == GONE
    held = {image.tobytes() for image in found.data.images}
    assert found.test is not None
    assert not held & {image.tobytes() for image in found.test.images}


def test_a_second_audit_takes_the_runs_that_are_there(runs: tuple[Path, Path], audited) -> None:
    said: list[str] = []
    again = audit(*runs, references=2, say=said.append)
    assert said == ["looking at the runs"]
    assert as_json(again) == as_json(audited)


def test_a_run_that_has_kept_something_is_not_exact(runs: tuple[Path, Path], audited) -> None:
    original, forgotten = runs
    stale = forgotten.parent / "stale"
    shutil.copytree(forgotten, stale)
    for name in ("projector.safetensors", "checkpoint.safetensors"):
        shutil.copy(original / name, stale / name)
    found = audit(original, stale, references=2, place=forgotten / "audit")
    assert found.verdict.outcome != "exact"
    assert found.attacks[0].forgotten == found.attacks[0].original


def test_the_report(runs: tuple[Path, Path], audited: Audit, tmp_path: Path) -> None:
    page = write_report(audited, tmp_path)
    text = page.read_text("utf-8")
    assert "bit for bit" in text
    assert "<script" not in text
    assert len(text) < 40_000
    data = json.loads((tmp_path / "forget-report.json").read_text("utf-8"))
    assert data["verdict"]["outcome"] == "exact"
    assert data["images"]["forgotten"] == GONE
    assert str(ROOT) not in text


def test_the_page_fits_every_screen(audited: Audit, tmp_path: Path) -> None:
    address = write_report(audited, tmp_path).as_uri()
    with browser() as page:
        for width, dark in ((1200, False), (420, True), (360, False)):
            page.look(width, 900, dark)
            page.open(address)
            root = "document.documentElement"
            assert page.run(f"{root}.scrollWidth - {root}.clientWidth") <= 0
            colour = page.run("getComputedStyle(document.body).backgroundColor")
            assert (colour == "rgb(17, 19, 22)") == dark
        assert page.errors == []
        assert all(request == address for request in page.requests)


def test_a_recipe_that_trains(tmp_path: Path) -> None:
    original, forgotten = pair(tmp_path, "fedsimclr", rounds=1)
    found = audit(original, forgotten, references=2)
    names = [each.name for each in found.attacks]
    assert names == ["centroids", "views in the encoder", "views in the projector"]
    assert found.verdict.outcome == "exact"
    assert not found.sums


def test_a_site_that_has_gone(runs: tuple[Path, Path], tmp_path: Path) -> None:
    original, _ = runs
    forgotten = tmp_path / "gone"
    forgotten.mkdir()
    leave_out(original, forgotten, np.array(json_sites(original)[0]))
    found = audit(original, forgotten, references=2)
    assert found.counts.sites == {"site-0": len(json_sites(original)[0])}
    assert found.verdict.outcome == "exact"


def json_sites(folder: Path) -> list[list[int]]:
    return json.loads((folder / "partition.json").read_text())["sites"]


def test_never_seen_images_have_the_classes_of_the_forgotten(runs: tuple[Path, Path]) -> None:
    found = material(*runs)
    data, test = found.data, found.test
    assert test is not None and data.labels is not None
    gone = data.subset(np.flatnonzero(data.labels == 3)[:10])
    found = alike(test, gone, 4)
    assert found.labels is not None
    assert set(found.labels) == {3}
    assert len(found.labels) == 40


def test_two_runs_that_are_no_pair(runs: tuple[Path, Path]) -> None:
    original, forgotten = runs
    with pytest.raises(UserError, match="no run without some"):
        material(original, original)
    with pytest.raises(UserError, match="no run without some"):
        material(forgotten, original)


def test_too_few_images_are_not_attacked_and_it_is_said(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    original, _ = runs
    few = tmp_path / "few"
    few.mkdir()
    leave_out(original, few, np.arange(3))
    found = material(original, few)
    assert len(found.gone) == 3 and not len(found.unseen.images)
    assert "3 forgotten images beside" in found.wanting[0] and "20 of each" in found.wanting[0]
    assert found.test is not None


def test_sites_of_elsewhere_are_not_audited_here(runs: tuple[Path, Path], tmp_path: Path) -> None:
    original, forgotten = runs
    shutil.copytree(forgotten, tmp_path / "far")
    (tmp_path / "far" / "partition.json").unlink()
    with pytest.raises(UserError, match="hold their own images"):
        material(original, tmp_path / "far")


def test_where_nobody_has_an_image_that_is_unseen_bits_and_own_figures_are_left(
    tmp_path: Path,
) -> None:
    found = audit(*pair_of_everything(tmp_path), references=2)
    assert not found.attacks and found.verdict.outcome == "exact"
    assert "no test images, and the run had all others" in found.wanting[0]
    assert {"nmi", "acc"} <= {each.key for each in found.figures} and not found.counts.test
    text = write_report(found, tmp_path).read_text("utf-8")
    assert "as the runs report it" in text and "Nobody has looked" in text
    assert "is no finding" not in text
    assert found.wanting[0] in text


def test_what_no_audit_can_look_at_is_said_before_anything_is_done() -> None:
    with pytest.raises(UserError, match="each site has a model of its own"):
        check_audited(plan("fedsimclr", batchnorm="local"))


def pair_of_everything(folder: Path) -> tuple[Path, Path]:
    original, forgotten = folder / "original", folder / "forgotten"
    original.mkdir()
    forgotten.mkdir()
    simulate(plan("fedkmeans-pixels", images=0, encoder="pixels", rounds=0), original)
    leave_out(original, forgotten, np.arange(100))
    return original, forgotten


def test_one_reference_is_refused(runs: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="at least 2"):
        audit(*runs, references=1)


def test_a_damaged_reference_is_made_anew(runs: tuple[Path, Path], audited, tmp_path) -> None:
    original, forgotten = runs
    copy = tmp_path / "copy"
    shutil.copytree(forgotten, copy)
    (copy / "audit" / "seed-1" / "about.json").write_text("{")
    said: list[str] = []
    audit(original, copy, references=2, say=said.append)
    assert said[0] == "a run without the data, seed 1"


def test_digests_are_of_all_bits(tmp_path: Path) -> None:
    one = np.arange(6.0).reshape(2, 3)
    save_file({"a": one}, tmp_path / "x")
    assert digest(one) == digest(load_file(tmp_path / "x")["a"])
    assert digest(one) != digest(one.reshape(3, 2))
    assert digest(one) != digest(one.astype(np.float32))
    assert digest(one) != digest(np.nextafter(one, 9))
    assert digest(None) == ""
