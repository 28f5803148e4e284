"""`model.covey`: what is written is read back; any other file is refused in one line."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from common.clustering.centroids import Centroids
from common.config import recipes
from common.learned.facts import Facts, Preprocessing, facts_of, portable_plan
from common.learned.file import LearnedModel, learned, read_learned
from common.record.reader import RunRecord
from common.utils.errors import UserError
from common.utils.files import note, read_note
from tests.builders.records import a_run, a_stage

PLAN = recipes.load("fedsimclr").plan({"clusters": 3, "dataset": "/home/me/secret"})
FACTS = Facts(
    run="a-run",
    recipe="fedsimclr",
    created="2026-05-04T03:02:01+0000",
    covey="0.1.0",
    plan=portable_plan(PLAN),
    space="encoder",
    preprocessing=Preprocessing(channels=1, side=8),
    names=("dent", "", "scratch"),
)


@pytest.fixture
def model() -> LearnedModel:
    rng = np.random.default_rng(0)
    weights = {"weight": rng.normal(size=(4, 3)).astype(np.float32)}
    weights["seen"] = np.zeros((), np.float32)  # a counter has no dimension
    points = np.eye(3, 4, dtype=np.float32)
    return learned(FACTS, {"encoder": weights}, Centroids(points, np.array([5, 6, 7])))


def test_what_is_written_is_read_back_and_equal_content_has_equal_bytes(model, tmp_path) -> None:
    path = model.write(tmp_path / "model.covey")
    again = read_learned(path)
    assert again.facts == FACTS and again.digest == model.digest
    assert again.to_bytes() == path.read_bytes() == model.to_bytes()
    assert np.array_equal(again.part("encoder")["weight"], model.part("encoder")["weight"])
    assert again.part("encoder")["seen"].shape == ()
    assert again.part("centroids")["counts"].tolist() == [5, 6, 7]
    assert "secret" not in path.read_bytes().decode("latin-1")  # no place of this machine


def test_another_name_is_another_digest_and_the_same_model(model) -> None:
    named = model.with_facts(names=["dent", "hole", "scratch"], same=[[1, 2]])
    assert named.digest != model.digest and named.identity == model.identity
    assert [named.facts.shown(k) for k in range(3)] == ["dent", "hole", "hole"]
    assert model.facts.shown(1) == "cluster 1"
    said = model.with_facts(same=[[1, 2]]).facts
    assert said.shown(1) == said.shown(2) == "scratch"
    unnamed = model.with_facts(names=["", "", ""], same=[[2, 1]]).facts
    assert unnamed.shown(1) == unnamed.shown(2) == "cluster 1"
    with pytest.raises(UserError, match="a cluster beyond the 3"):
        model.with_facts(split=[3])


def spoiled(model: LearnedModel, kind: str) -> bytes:
    whole = model.to_bytes()
    about = {"kind": "covey model", "digest": model.digest}
    facts = json.loads(model.facts.to_json())

    def packed(given: object, tensors: dict = model.tensors) -> bytes:
        return save(dict(tensors), metadata=note(about | {"facts": given}))

    def signed(tensors: dict) -> bytes:
        return LearnedModel(model.facts, tensors).to_bytes()

    nan = np.full((4, 3), np.nan, np.float32)
    return {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "a flipped bit": whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
        "another's name": whole.replace(b"scratch", b"scrbtch"),
        "a pickle": pickle.dumps({"weight": 1}),
        "a photograph": b"\x89PNG\r\n\x1a\n" + b"0" * 200,
        "somebody's safetensors": save({"weight": np.ones(3, np.float32)}),
        "an encoder of a run": save({"w": np.ones(3, np.float32)}, note({"encoder": "convnet"})),
        "no facts": packed(None),
        "facts of another format": packed(facts | {"format": 2}),
        "facts with more": packed(facts | {"more": 1}),
        "a name that is no line": packed(facts | {"names": ["a\nb", "", ""]}),
        "sizes of other clusters": packed(facts | {"sizes": [1]}),
        "a foreign tensor": signed({**model.tensors, "optimiser/x": np.ones(1, np.float32)}),
        "doubles": signed({**model.tensors, "encoder/weight": np.ones((4, 3))}),
        "no numbers": signed({**model.tensors, "encoder/weight": nan}),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["empty", "cut", "a flipped bit", "another's name", "a pickle", "a photograph",
     "somebody's safetensors", "an encoder of a run", "no facts", "facts of another format",
     "facts with more", "a name that is no line", "sizes of other clusters", "a foreign tensor",
     "doubles", "no numbers"],
)  # fmt: skip
def test_what_is_damaged_or_foreign_is_refused_in_one_line(model, kind, tmp_path: Path) -> None:
    path = tmp_path / "file.covey"
    path.write_bytes(spoiled(model, kind))
    with pytest.raises(UserError, match=r"file\.covey") as told:
        read_learned(path)
    assert str(told.value).isprintable() and len(str(told.value)) < 500


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        read_learned(tmp_path / "nothing.covey")
    with pytest.raises(UserError, match="no model of Covey"):
        read_learned(tmp_path)


def test_the_facts_of_a_run_are_its_last_stages_and_the_names_its_largest_classes() -> None:
    plan = PLAN.model_dump(mode="json", by_alias=True)
    run = a_run(plan=plan, classes=("cat", "dog"))
    table = ((0, 3), (4, 1), (0, 0))
    stage = a_stage(cluster_sizes=(3, 5, 0), table=table, figures={"nmi": 0.5})
    facts = facts_of(RunRecord(run, (stage,)))
    assert facts.names == ("dog", "cat", "") and facts.sizes == (3, 5, 0)
    assert (facts.images, facts.sites, facts.figures) == (200, 2, {"nmi": 0.5})
    by_head = stage.model_copy(update={"by": "head"})
    facts = facts_of(RunRecord(run, (by_head,)))
    assert facts.names == ("", "", "") and facts.sizes == ()


def test_a_note_of_ours_is_one_key(model, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(dict(model.tensors), path, metadata=note({"a": 1}))
    assert read_note({"covey": '{"a": 1}'}) == {"a": 1}
    with pytest.raises(UserError, match="it holds something else"):
        read_learned(path)
