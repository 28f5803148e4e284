"""What a site may answer about one step's batch, and what is refused without touching the sum."""

from dataclasses import replace

import numpy as np
import pytest

import client.trainer
from client.tasks import TASKS
from common.protocol.messages import Reply
from common.utils.errors import UserError
from deploy.engines.in_process import InProcessGrid
from server.conversation.inquiry import Inquiry, Participants
from tests.builders.sites import trainer
from tests.intruders import instructions
from tests.intruders.replies import EXPECTED, SITES, asked, exchange, good, state

KINDS = ("statistics", "gradient")
BAD = {
    "a gradient of no image": ({"examples": 0}, "groups.encoder: not asked for"),
    "images and no gradient": ({"groups": {}}, "groups.encoder: missing"),
    "more images than there are": ({"examples": 21}, "21 examples: it announced 20"),
    "another size": ({"groups": {"encoder": np.ones(3, np.float32)}}, "3 numbers instead of 4"),
    "another model's": ({"layout": "other"}, "its model has layout other"),
    "not a number": ({"groups": {"encoder": np.full(4, np.nan, np.float32)}}, "NaN|finite"),
    "beyond all bounds": ({"groups": {"encoder": np.full(4, 1e6, np.float32)}}, "beyond ±4096"),
    "a module more": (
        {"groups": {n: np.ones(4, np.float32) for n in ("encoder", "moment")}},
        "groups.moment: not asked for",
    ),
}


@pytest.fixture
def message():
    InProcessGrid({})  # Flower's messages want to know whose process this is
    of = Inquiry(asked("gradient"), Participants({"bad": 2}, SITES), EXPECTED)
    return next(iter(of.messages().values()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", BAD)
def test_what_is_no_part_of_a_step_is_refused_and_changes_no_bit(
    case: str, kind: str, message
) -> None:
    parts, why = BAD[case]
    opened = exchange(kind, message)
    before = state(opened)
    message.content = replace(good(kind), **parts).to_record()
    opened.fold([("bad", message)])
    assert list(opened.refused) == ["bad"]
    assert any(each in opened.refused["bad"] for each in why.split("|")), opened.refused
    assert state(opened) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_site_that_has_too_few_images_in_the_batch_answers_with_nothing(
    kind: str, message
) -> None:
    opened = exchange(kind, message)
    mean = opened.update.result()["encoder"].copy()
    sums = {**good(kind).sums, **({"seen": 0.0} if kind == "gradient" else {})}
    message.content = replace(good(kind), examples=0, groups={}, sums=sums).to_record()
    opened.fold([("bad", message)])
    assert sorted(opened.answered) == ["bad", "good"] and not opened.missing
    assert np.array_equal(opened.update.result()["encoder"], mean)


@pytest.mark.parametrize("kind", KINDS)
def test_a_site_lets_no_gradient_of_few_images_leave(kind: str, tmp_path, monkeypatch) -> None:
    site, wanted = trainer(tmp_path, 60), instructions.instruction(kind)
    reply = site.handle(wanted)
    assert reply.examples >= 5 and reply.groups

    def careless(task) -> Reply:
        return replace(TASKS[kind](task), examples=4)

    monkeypatch.setattr(client.trainer, "TASKS", {kind: careless})
    with pytest.raises(UserError, match="4 images, and none of fewer than 5 may leave"):
        site.handle(wanted)
