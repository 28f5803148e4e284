"""What a server may choose at a site, and what not: no path, no data, no more memory than a model
may have."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.site import Site
from client.validation import run_folder
from client.workbench import check_size
from common.clustering.centroids import Centroids
from common.learned.facts import portable_plan
from common.protocol.messages import Instruction, encode
from common.utils.errors import UserError
from tests.builders.sites import site
from tests.intruders.instructions import Beyond, instruction, watched

TRAIN = instruction("train")


def asked(the_site: Site, sent: Instruction) -> bytes:
    return the_site.handle(encode(sent.to_record()))


@pytest.mark.parametrize(
    "run",
    ["", ".", "..", "../other", "/tmp/x", "a/b", ".hidden", "a\0b", "a\nb", "\x1b[2J", "x" * 300],
)
def test_a_runs_name_is_no_path(run, tmp_path) -> None:
    with pytest.raises(UserError, match="not a plain name"):
        run_folder(tmp_path, run)


@pytest.mark.parametrize("name", ["private", "logs", "left.jsonl", "link"])
def test_a_runs_name_leads_to_nothing_else_of_the_site(name, tmp_path) -> None:
    for folder in ("private", "logs", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    (tmp_path / "logs" / "trainer.log").write_text("")
    (tmp_path / "left.jsonl").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="something else of this site's"):
        run_folder(tmp_path, name)


def test_a_run_that_is_there_already_is_gone_on_with(tmp_path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("state-000001.safetensors", "assignments.csv", "state-000002.broken"):
        (tmp_path / "run" / name).write_text("")
    assert run_folder(tmp_path, "run") == tmp_path / "run"


@pytest.mark.parametrize(
    "options",
    [
        {"dataset": "/etc"},
        {"dataset": "cifar10", "images": 3},
        {"partition": "shards(2)", "sites": 1},
        {"device": "cuda:7"},
        {"recipe": "/etc/passwd"},
    ],
    ids=str,
)
def test_a_plan_cannot_choose_the_images_the_device_or_a_file(options, tmp_path) -> None:
    """The answer is the same to the bit as without, and nothing outside of the folder is opened.
    (Side, colours and window are the plan's to say: tests/client/test_holdings.py.)"""
    plain = replace(TRAIN, kind="assess")
    first = site(tmp_path / "a").trainer.handle(plain)
    other = site(tmp_path / "b")
    changed = replace(plain, plan=plain.plan.model_copy(update=options))
    with watched(tmp_path / "b"):
        second = other.trainer.handle(changed)
    assert second.examples == first.examples
    assert np.array_equal(second.moments["gram"], first.moments["gram"])
    assert np.array_equal(second.tables["local"], first.tables["local"])


def test_the_watch_sees_what_leads_out_of_a_folder(tmp_path) -> None:
    for act in (
        lambda: (tmp_path / "x").write_text("x"),
        lambda: Path("/etc/hostname").read_bytes(),
        (tmp_path / "y").mkdir,
    ):
        with pytest.raises(Beyond), watched(tmp_path / "site"):
            act()


def wide(number: int) -> Instruction:
    stage = TRAIN.plan.stages[0].model_copy(update={"parameters": {"hidden": number}})
    return replace(TRAIN, plan=TRAIN.plan.model_copy(update={"stages": (stage,)}))


@pytest.mark.parametrize("number", [10**7, 10**12, 2**62])
def test_a_model_that_would_fill_the_memory_is_refused_before_it_is_made(number) -> None:
    with pytest.raises(UserError, match="model"):
        check_size(wide(number).plan, 0, 1, 8)


@pytest.mark.parametrize("number", [-1, -(2**62)])
def test_a_model_that_cannot_be_is_refused(number) -> None:
    with pytest.raises(UserError, match="cannot be built"):
        check_size(wide(number).plan, 0, 1, 8)


DELIVER = instruction("deliver")


def told(**changes: object) -> str:
    """The facts of the delivery, changed."""
    return json.dumps(json.loads(DELIVER.learned) | changes)


WRONG = {
    "another stage": (replace(TRAIN, stage=1), "no stage 1"),
    "a negative stage": (replace(TRAIN, stage=-1), "no stage -1"),
    "a round that the stage does not have": (replace(TRAIN, round=3), "no round 3"),
    "a round before the first": (replace(TRAIN, round=0), "no round 0"),
    "no clusters": (
        replace(TRAIN, plan=TRAIN.plan.model_copy(update={"clusters": 0})),
        "how many clusters",
    ),
    "another model": (replace(TRAIN, layout="0123456789abcdef"), "layout"),
    "no model": (replace(TRAIN, groups={}), "no model"),
    "an unknown group": (
        replace(TRAIN, groups={**TRAIN.groups, "x": np.ones(1, np.float32)}),
        "groups.x: not of this model",
    ),
    "a group of another size": (
        replace(TRAIN, groups={**TRAIN.groups, "projector": np.ones(1, np.float32)}),
        "1 numbers instead of",
    ),
    "nothing to prepare": (replace(TRAIN, kind="prepare"), "prepares nothing"),
    "no centroids": (replace(instruction("score"), centroids=None), "no centroids"),
    "half a set of centroids": (
        replace(
            instruction("lloyd"),
            centroids=Centroids(np.eye(15, 64, dtype=np.float32), np.ones(15, int)),
        ),
        "centroids: (15, 64)",
    ),
    "centroids of another width": (
        replace(
            instruction("score"),
            centroids=Centroids(np.eye(10, dtype=np.float32), np.ones(10, int)),
        ),
        "centroids: (10, 10)",
    ),
    "a model before the run has ended": (replace(DELIVER, round=1), "has not ended"),
    "facts with another exchange": (replace(TRAIN, learned="{}"), "only the end of a run"),
    "no facts": (replace(DELIVER, learned=""), "options: "),
    "facts of another plan": (
        replace(DELIVER, learned=told(plan=portable_plan(wide(32).plan))),
        "of another plan",
    ),
    "facts of other images": (
        replace(DELIVER, learned=told(preprocessing={"channels": 3, "side": 8})),
        "of another plan",
    ),
    "facts of other clusters": (replace(DELIVER, learned=told(names=["a"])), "other clusters"),
    "a name that is no line": (replace(DELIVER, learned=told(names=["\x1b[2J"] * 10)), "line"),
    "a name without end": (replace(DELIVER, learned=told(names=["x" * 10**5] * 10)), "200 char"),
    "a figure that nobody knows": (replace(DELIVER, learned=told(figures={"x": 1})), "no metric"),
    "no end of facts": (replace(DELIVER, learned=" " * 2**23), "characters of facts"),
    "long centroids": (
        replace(
            DELIVER,
            centroids=Centroids(2 * np.eye(10, 64, dtype=np.float32), np.ones(10, int)),
        ),
        "unit length",
    ),
    "a probe of another shape": (
        replace(instruction("score"), probe=np.ones((3, 3), np.float32)),
        "probe: (3, 3)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_in_one_line(case, tmp_path) -> None:
    wrong, why = WRONG[case]
    with pytest.raises(UserError, match=r".*") as refusal:
        asked(site(tmp_path), wrong)
    assert why in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_bytes_that_are_no_record_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no record"):
        site(tmp_path).handle(b"\xff\xff garbage")
