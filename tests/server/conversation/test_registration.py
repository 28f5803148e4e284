"""What a site says of itself is believed within bounds."""

from dataclasses import replace

import pytest
from flwr.app import Message

from common.config.recipes import load
from common.protocol.messages import Instruction, Reply
from common.record.schema import SiteFacts
from common.utils.errors import UserError
from deploy.engines.in_process import InProcessGrid
from server.conversation.registration import read_greeting

INFO = {"channels": 1, "side": 8, "kind": "digits", "classes": ["a"], "device": "cpu"}
GOOD = Reply("hello", "ward", 0, 10, info=INFO)


def greeting(reply: Reply) -> Message:
    InProcessGrid({})
    asked = Message(
        Instruction("hello", "r", 0, load("fedsimclr").plan({})).to_record(), 2, "query"
    )
    return Message(reply.to_record(), reply_to=asked)


def test_a_greeting_is_read() -> None:
    site = read_greeting(greeting(GOOD), "ward")
    assert (site.name, site.examples, site.side, site.classes) == ("ward", 10, 8, ("a",))
    assert site.facts == SiteFacts(examples=10, channels=1, side=8, kind="digits", device="cpu")


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"site": "other"}, "it calls itself 'other'"),
        ({"site": "\x1b[2J"}, "no name"),
        ({"site": ""}, "no name"),
        ({"examples": 0}, "no images"),
        ({"examples": 2**62}, "images"),
        ({"kind": "train"}, "it answers train"),
        ({"info": INFO | {"side": 10**6}}, "1000000"),
        ({"info": INFO | {"side": -8}}, "-8"),
        ({"info": INFO | {"channels": 2}}, "2×8×8"),
        ({"info": INFO | {"channels": True}}, "channels, side or classes"),
        ({"info": INFO | {"classes": ["<b>\n"]}}, "1 classes"),
        ({"info": INFO | {"classes": [str(n) for n in range(10_001)]}}, "10001 classes"),
        ({"info": INFO | {"classes": "a"}}, "channels, side or classes"),
    ],
)
def test_a_greeting_out_of_bounds_is_refused(parts, why) -> None:
    registered = "ward" if parts.get("site") == "other" else ""
    with pytest.raises(UserError, match=why):
        read_greeting(greeting(replace(GOOD, **parts)), registered)


@pytest.mark.parametrize("fact", ["\x1b]0;owned\x07", "x" * 1000, b"bytes", 1.5, 3])
def test_a_fact_that_cannot_be_shown_is_left_out(fact) -> None:
    site = read_greeting(greeting(replace(GOOD, info=INFO | {"device": fact, "more": "x"})), "")
    assert site.facts.device is None and "more" not in site.facts.model_dump()


@pytest.mark.parametrize(
    ("told", "used"), [(list(range(9)), 0), ([4] * 9, 4), ([1] * 8, None), ([-1] * 9, None),
                       ([2**40] * 9, None), ("nine", None)]
)  # fmt: skip
def test_what_a_site_says_of_its_files_is_believed_within_bounds(told, used) -> None:
    files = read_greeting(greeting(replace(GOOD, info=INFO | {"files": told})), "").facts.files
    assert (files and files.used) == used


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (["nut/bolt", ""], ("nut/bolt", "")),
        (["\x1b[2J"], None),
        (["x" * 81], None),
        (["a.jpg"], None),
        ([], None),
        ("name", None),
        ([""] * 10_001, None),
    ],
)
def test_names_that_a_site_offers_are_believed_within_bounds(offered, taken) -> None:
    site = read_greeting(greeting(replace(GOOD, info=INFO | {"names": offered})), "")
    assert site.facts.names == taken
