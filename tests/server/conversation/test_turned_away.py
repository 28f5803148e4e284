"""Sites that are not taken: who decides, who is told, and that nobody waits for them."""

import itertools
import time
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Message

from client.app import build_app
from client.site import open_site
from client.workbench import Workshop, pick_device
from common.config import recipes
from common.data.planned import planned_data
from common.protocol.messages import NOT_TAKEN, Instruction, Reply, decode, encode
from common.utils.errors import UserError
from server.app import run
from server.conversation import roster
from server.conversation.roster import Roster
from server.conversation.transport import hear, push
from server.run.folder import RunFolder
from tests.builders.records import events
from tests.server.fleet import Fleet

SMALL, LARGE, GREY = (3, 8), (3, 16), (1, 8)


class Introduced:
    """A site that says of itself what it is told to, and keeps what the server tells it."""

    def __init__(self, name: str, shape: tuple[int, int], examples: int, classes=()) -> None:
        channels, side = shape
        info = {"channels": channels, "side": side, "classes": list(classes)}
        self.reply = Reply("hello", name, 0, examples=examples, info=info)
        self.told: list[str] = []

    def app(self):
        def answer(_context, record: bytes) -> bytes:
            instruction = Instruction.from_record(decode(record))
            if instruction.refusal:
                self.told.append(instruction.refusal)
            return encode(self.reply.to_record())

        return build_app(answer)


def federation(*sites: Introduced, shape=None, **options) -> tuple[Fleet, Roster, list[str]]:
    grid = Fleet({site.reply.site: site.app() for site in sites})
    plan = recipes.load("fedsimclr").plan({"sites": len(sites), "deadline": 60, **options})
    said: list[str] = []
    return grid, Roster(grid, plan, "run", said.append, shape), said


@pytest.fixture(autouse=True)
def nobody_comes_later(monkeypatch) -> None:
    monkeypatch.setattr(roster, "LATECOMERS", 0.0)


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_the_images_of_most_sites_count_whoever_was_first(order) -> None:
    sites = {
        "a": Introduced("a", SMALL, 9),
        "b": Introduced("b", SMALL, 9),
        "c": Introduced("c", LARGE, 999),
    }
    _, who, said = federation(*(sites[name] for name in order))
    start = time.monotonic()
    who.gather(patience=60)
    assert time.monotonic() - start < 10  # nobody is waited for
    assert set(who.sites) == {"a", "b"} and who.shape == SMALL
    why = "its images are 3×16×16, the federation's 3×8×8 (covey client join --side 8 scales them)"
    assert [line for line in said if "refused" in line] == [f"site c refused: {why}"]
    assert said[-1] == "started with 2 of 3 sites"
    assert set(who.refresh()) == {"a", "b"}
    assert sites["c"].told == [why] and not sites["a"].told + sites["b"].told


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize(
    ("a", "b", "kept"),
    [
        ((SMALL, 9), (LARGE, 10), "b"),  # more images
        ((SMALL, 9), (LARGE, 9), "a"),  # the smaller ones
        ((SMALL, 9), (GREY, 9), "b"),
    ],
)
def test_between_as_many_sites_more_images_count_then_smaller_ones(order, a, b, kept) -> None:
    sites = {"a": Introduced("a", *a), "b": Introduced("b", *b)}
    _, who, _ = federation(*(sites[name] for name in order))
    who.gather(patience=60)
    assert set(who.sites) == {kept}


def test_a_run_that_goes_on_keeps_its_shape_whatever_most_sites_have_now() -> None:
    sites = [Introduced("a", SMALL, 9), Introduced("b", LARGE, 9), Introduced("c", LARGE, 9)]
    _, who, said = federation(*sites, shape=SMALL, quorum=0.3)
    who.gather(patience=60)
    assert set(who.sites) == {"a"} and len([s for s in said if "refused" in s]) == 2


def test_where_the_quorum_is_missed_the_end_names_who_was_refused_and_why() -> None:
    sites = [Introduced("a", SMALL, 10), Introduced("b", LARGE, 9), Introduced("c", GREY, 9)]
    _, who, _ = federation(*sites)
    start = time.monotonic()
    with pytest.raises(UserError) as ended:
        who.gather(patience=60)
    assert time.monotonic() - start < 10
    said = str(ended.value)
    assert said.startswith("only 1 of 3 sites joined (") and "in 60 s" not in said
    assert "b refused: its images are 3×16×16, the federation's 3×8×8" in said
    assert "c refused: its images are 1×8×8, the federation's 3×8×8" in said


def test_that_images_differ_is_said_while_another_site_is_awaited() -> None:
    sites = [Introduced(n, s, 9) for n, s in zip("abc", (SMALL, SMALL, LARGE), strict=True)]
    grid, who, said = federation(*sites, Introduced("d", LARGE, 9))
    grid.offline = {"d", "b"}
    who.refresh()
    who.refresh()
    difference = "the sites' images differ (3×8×8: a; 3×16×16: c): those of most sites will count"
    assert said == [difference]
    grid.offline = set()
    who.gather(patience=60)
    assert set(who.sites) == {"a", "b"}


def test_who_comes_while_an_exchange_is_held_is_heard_before_it_is_over(monkeypatch) -> None:
    """Site b trains for long. Meanwhile c, whose images are of another size, and d, whose are not,
    come: c is refused and told so at once, d is in the next exchange."""
    monkeypatch.setattr(roster, "WELCOME", 0.0)
    sites = [Introduced(n, SMALL, 9) for n in "ab"] + [Introduced("c", LARGE, 9)]
    sites.append(Introduced("d", SMALL, 9))
    grid, who, said = federation(*sites, shape=SMALL)
    grid.offline = {"c", "d"}
    who.refresh()
    before = who.refresh()
    assert set(before) == {"a", "b"}
    asked = Instruction("hello", "run", 0, recipes.load("fedsimclr").plan({}))
    messages = {n: Message(asked.to_record(), i, "query") for n, i in before.items()}
    grid.asleep, grid.offline = {"b"}, set()

    def meanwhile() -> None:
        who.welcome()
        if sites[2].told:
            grid.asleep = set()

    heard = [site for site, _ in hear(grid, push(grid, messages), 60, meanwhile=meanwhile)]
    assert heard == ["a", "b"] and grid.times("c", "hello") == 2  # asked, and told
    assert "site c refused: its images are 3×16×16, the federation's 3×8×8" in said[-1]
    assert set(who.sites) == {"a", "b", "d"} == set(who.refresh())


def test_newcomers_are_not_looked_for_at_every_moment(monkeypatch) -> None:
    grid, who, _ = federation(Introduced("a", SMALL, 9))
    looks: list[None] = []
    monkeypatch.setattr(grid, "get_nodes", lambda: looks.append(None) or [])
    for _ in range(5):
        who.welcome()
    assert len(looks) == 1


def test_a_refused_site_is_out_until_it_has_left_and_come_back() -> None:
    sites = [Introduced("a", SMALL, 9), Introduced("b", SMALL, 9), Introduced("c", LARGE, 9)]
    grid, who, said = federation(*sites)
    who.gather(patience=60)
    who.refresh()
    assert grid.times("c", "hello") == 2  # asked, and told
    grid.offline = {"c"}
    who.refresh()
    grid.offline = set()
    sites[2].reply = replace(sites[2].reply, info=sites[0].reply.info)
    assert set(who.refresh()) == {"a", "b", "c"}
    assert len([line for line in said if "refused" in line]) == 1


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (Introduced("", SMALL, 9), "it calls itself ''"),
        (Introduced("b", SMALL, 0), "it has no name, or no images"),
        (Introduced("x", SMALL, 9), "it calls itself 'x'"),
        (Introduced("b", (2, 8), 9), "its images are 2×8×8"),
        (Introduced("b", SMALL, 9, classes=["\x1b[2J"]), "without a printable name"),
        (Introduced("b", SMALL, 9, classes=map(str, range(9_999))), "classes are too many"),
        (Introduced("b", SMALL, 2**62), "images"),
    ],
)
def test_whatever_a_site_is_refused_for_it_is_told_and_nobody_waits(other, why) -> None:
    first = Introduced("a", SMALL, 9, classes=["cat", "dog"])
    grid = Fleet({"a": first.app(), "b": other.app()})
    plan = recipes.load("fedsimclr").plan({"sites": 2, "deadline": 60})
    said: list[str] = []
    who = Roster(grid, plan, "run", said.append)
    who.gather(patience=60)
    who.refresh()
    assert set(who.sites) == {"a"} and not first.told
    assert why in said[0] and said[0].startswith("site b refused: ")
    (told,) = other.told
    assert why in told


def test_the_coordinator_reads_of_a_refusal_before_the_run_begins(tmp_path: Path) -> None:
    sites = [Introduced("a", SMALL, 9), Introduced("b", LARGE, 9)]
    grid, _, _ = federation(*sites)
    plan = recipes.load("fedsimclr").plan({"sites": 2, "deadline": 60, "quorum": 1})
    shown: list[str] = []
    with pytest.raises(UserError, match=r"only 1 of 2 sites joined \(b refused: its images"):
        run(grid, plan, RunFolder(tmp_path / "run", lambda e: shown.append(e.text)), "flower")
    assert [event["text"] for event in events(tmp_path / "run", "warning")] == shown
    assert "site b refused: its images are 3×16×16, the federation's 3×8×8" in shown[-1]


def test_a_site_notes_why_it_was_not_taken_on_one_printable_line(tmp_path: Path, caplog) -> None:
    plan = recipes.load("fedsimclr").plan({"images": 20, "dataset": "digits", "sites": 1})
    site = open_site("a", planned_data(plan), tmp_path, Workshop(pick_device("cpu")))
    hello = Instruction("hello", "run\n1", 0, plan, refusal="no\x1b[2J" + "x" * 5000)
    reply = Reply.from_record(decode(site.handle(encode(hello.to_record()))))
    assert reply.kind == "hello"
    (line,) = [r.getMessage() for r in caplog.records if r.name == "client.trainer"]
    assert line.startswith(f"{NOT_TAKEN} run�1: no�[2Jx")
    assert line.isprintable() and len(line) < 1000
