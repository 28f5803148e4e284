"""One exchange: a bad reply is refused by name and the others make the mean."""

from dataclasses import replace

import numpy as np
import pytest

from client.app import build_app
from common.clustering.centroids import Centroids
from common.config import recipes
from common.protocol.layout import Layout
from common.protocol.messages import NEEDS_MODEL, Instruction, Reply, decode, encode, wire_size
from common.utils.errors import UserError
from deploy.engines.in_process import InProcessGrid
from server.conversation.inquiry import Inquiry, Participants, account
from server.conversation.registration import SiteInfo
from server.conversation.transport import hear, push
from server.conversation.validation import Expected

PLAN = recipes.load("fedmcc").plan({"clusters": 2, "deadline": 5})
LAYOUT = Layout({"encoder": (("weight", (4,)),)})
WIDTH = 3
EXPECTED = Expected(LAYOUT, WIDTH)


def instruction(kind="train") -> Instruction:
    return Instruction(
        kind,
        "run",
        1,
        PLAN,
        0,
        LAYOUT.digest,
        groups={"encoder": np.zeros(4, np.float32)},
        classes=("a", "b"),
    )


def good_reply(site: str, value: float, examples: int, kind="train") -> Reply:
    return Reply(
        kind=kind,
        site=site,
        round=1,
        examples=examples,
        layout=LAYOUT.digest,
        groups={"encoder": np.full(4, value, np.float32)},
        centroids=Centroids(np.eye(2, WIDTH, dtype=np.float32), np.array([5, 5])),
        tables={"local": np.array([[5, 0], [0, 5]])},
        vectors={"sum": np.ones(WIDTH), "squares": np.ones(WIDTH)},
        sums={"images": 10.0, "loss.loss": 2.0 * examples, "seen": float(examples)},
        seconds={"train": 1.0},
    )


def inquiry_with(replies: dict[str, Reply | Exception], kind="train") -> Inquiry:
    def app_of(reply):
        def handle(_context, _record):
            if isinstance(reply, Exception):
                raise reply
            return encode(reply.to_record())

        return build_app(handle)

    grid = InProcessGrid({site: app_of(reply) for site, reply in replies.items()})
    nodes = {node.name: node.node_id for node in grid.get_nodes()}
    sites = {name: SiteInfo(name, 100, 1, 8, ("a", "b"), {}) for name in nodes}
    inquiry = Inquiry(instruction(kind), Participants(nodes, sites), EXPECTED)
    inquiry.hold(grid)
    return inquiry


def test_the_mean_is_weighted_by_examples() -> None:
    inquiry = inquiry_with({"a": good_reply("a", 1.0, 10), "b": good_reply("b", 4.0, 20)})
    assert inquiry.answered == ["a", "b"]
    assert inquiry.update.result()["encoder"].tolist() == [3.0] * 4
    assert inquiry.measured.losses() == {"loss": 2.0}


NAN = np.full(4, np.nan, np.float32)
GOOD = good_reply("bad", 1.0, 10)
BAD = {
    "NaN": (replace(GOOD, groups={"encoder": NAN}), "groups.encoder: has NaN"),
    "infinite": (replace(GOOD, groups={"encoder": NAN * np.inf}), "groups.encoder: has NaN"),
    "wrong shape": (
        replace(GOOD, groups={"encoder": np.ones(5, np.float32)}),
        "groups.encoder: 5 numbers instead of 4",
    ),
    "missing part": (replace(GOOD, groups={}), "groups.encoder: missing"),
    "extra part": (
        replace(GOOD, groups={**GOOD.groups, "malware": np.ones(4, np.float32)}),
        "groups.malware: not asked for",
    ),
    "zero examples": (replace(GOOD, examples=0), "zero examples"),
    "more examples than announced": (replace(GOOD, examples=101), "it announced 100"),
    "another model": (replace(GOOD, layout="other"), "layout other"),
    "another site's name": (replace(GOOD, site="good"), "calls itself 'good'"),
    "an old round": (replace(GOOD, round=7), "round 7"),
    "huge values": (
        replace(GOOD, groups={"encoder": np.full(4, 1e30, np.float32)}),
        "beyond ±4096",
    ),
    "too many centroids": (
        replace(
            GOOD,
            centroids=Centroids(np.eye(3, dtype=np.float32), np.ones(3, np.int64)),
            tables={"local": np.ones((3, 2), np.int64)},
        ),
        "centroids",
    ),
    "centroids of another width": (
        replace(GOOD, centroids=Centroids(np.eye(2, 5, dtype=np.float32), np.array([5, 5]))),
        "centroids",
    ),
    "centroids without their table": (replace(GOOD, tables={}), "tables.local: missing"),
    "impossible sums": (
        replace(GOOD, vectors={**GOOD.vectors, "sum": np.full(3, 1e9)}),
        "larger than a sum",
    ),
    "unknown sums": (replace(GOOD, vectors={"labels": np.ones(3)}), "vectors.labels"),
    "a table of other classes": (
        replace(GOOD, tables={"local": np.ones((2, 7), np.int64)}),
        "tables.local: shape (2, 7) instead of (2, 2)",
    ),
    "a mistake at the site": (UserError("the disk is full"), "the disk is full"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_reply_is_refused_by_name_and_the_round_goes_on(case: str) -> None:
    reply, reason = BAD[case]
    inquiry = inquiry_with({"bad": reply, "good": good_reply("good", 2.0, 10)})
    assert inquiry.answered == ["good"]
    assert list(inquiry.refused) == ["bad"]
    assert reason in inquiry.refused["bad"]
    assert inquiry.update.result()["encoder"].tolist() == [2.0] * 4
    assert account(inquiry)["refused"] == inquiry.refused


def test_an_assessment_needs_moments_that_fit() -> None:
    moments = {"gram": np.eye(WIDTH + 1), "cross": np.zeros((WIDTH + 1, 2))}
    sums = {"images": 10.0, "knn_correct": 1.0, "held": 2.0}
    good = replace(good_reply("good", 0, 10, "assess"), moments=moments, sums=sums, groups={})
    bad = replace(good, site="bad", moments={"gram": np.eye(2), "cross": np.zeros((2, 2))})
    none = replace(good, site="none", moments={})
    inquiry = inquiry_with({"good": good, "bad": bad, "none": none}, kind="assess")
    assert inquiry.answered == ["good"]
    assert "moments.gram" in inquiry.refused["bad"]
    assert inquiry.refused["none"] == "moments.gram: missing"


@pytest.mark.parametrize("remembers", [True, False, None])
def test_a_site_that_lacks_what_is_left_out_is_sent_it_once(remembers: bool | None) -> None:
    """None: it says so whatever it is sent, and is refused like any other."""
    sent: dict[str, list[set[str]]] = {"good": [], "other": []}

    def app_of(site: str):
        def handle(_context, record):
            groups = Instruction.from_record(decode(record)).groups
            sent[site].append(set(groups))
            if site == "other" and (remembers is None or not (remembers or groups)):
                raise UserError(NEEDS_MODEL)
            return encode(good_reply(site, 1.0, 10).to_record())

        return build_app(handle)

    grid = InProcessGrid({site: app_of(site) for site in sent})
    nodes = {node.name: node.node_id for node in grid.get_nodes()}
    sites = {name: SiteInfo(name, 100, 1, 8, ("a", "b"), {}) for name in nodes}
    asked = instruction()
    expected = Expected(LAYOUT, WIDTH, prepared="moment")  # the encoder came with `prepare`
    inquiry = Inquiry(asked, Participants(nodes, sites), expected)
    inquiry.hold(grid)
    assert sent == {"good": [set()], "other": [set()] if remembers else [set(), {"encoder"}]}
    assert sorted(inquiry.answered) == (["good"] if remembers is None else ["good", "other"])
    assert inquiry.refused == ({"other": NEEDS_MODEL} if remembers is None else {})
    assert not inquiry.waiting
    lean, whole = (wire_size(a.to_record()) for a in (replace(asked, groups={}), asked))
    assert inquiry.cost.bytes_down == 2 * lean + (0 if remembers else whole)


class SlowGrid(InProcessGrid):
    """Answers of the site "slow" never come."""

    def pull_messages(self, message_ids):
        slow = {
            i
            for i, m in self._waiting.items()
            if self._nodes[m.metadata.dst_node_id].name == "slow"
        }
        return super().pull_messages([i for i in message_ids if i not in slow])


def test_the_deadline_closes_the_round_with_who_answered() -> None:
    apps = {
        name: build_app(lambda _c, r, name=name: encode(good_reply(name, 1, 5).to_record()))
        for name in ("fast", "slow")
    }
    grid = SlowGrid(apps)
    nodes = {node.name: node.node_id for node in grid.get_nodes()}
    sites = {name: SiteInfo(name, 100, 1, 8, (), {}) for name in nodes}
    asked = replace(instruction(), plan=PLAN.model_copy(update={"deadline": 0.3}))
    inquiry = Inquiry(asked, Participants(nodes, sites), EXPECTED)
    inquiry.hold(grid)
    assert (inquiry.answered, inquiry.missing) == (["fast"], ["slow"])
    assert 0.3 <= inquiry.seconds < 2


def test_answers_are_handed_on_one_by_one_before_the_next_is_pulled() -> None:
    events = []

    class Watched(InProcessGrid):
        def pull_messages(self, message_ids):
            for message in super().pull_messages(message_ids):
                events.append("pulled")
                yield message

    apps = {n: build_app(lambda _c, r, n=n: encode(good_reply(n, 1, 5).to_record())) for n in "abc"}
    grid = Watched(apps)
    nodes = {node.name: node.node_id for node in grid.get_nodes()}
    sites = {name: SiteInfo(name, 100, 1, 8, (), {}) for name in nodes}
    held = Inquiry(instruction(), Participants(nodes, sites), EXPECTED)
    for _site, message in hear(grid, push(grid, held.messages()), 5):
        events.append("handed on")
        assert not message.has_error()
    assert events == ["pulled", "handed on"] * 3
