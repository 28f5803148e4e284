"""Who is asked: sites that come, go, sleep and come back; and when a round is over."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from client.app import build_app
from client.workbench import Workshop, pick_device
from common.config import recipes
from common.data.planned import planned_data, planned_partition
from common.protocol.messages import Instruction, Reply, encode
from common.protocol.taken_back import TOO_FEW_LEFT
from common.utils.errors import UserError
from deploy.engines.in_process import sites_of
from server.app import run
from server.conversation import asking, roster
from server.conversation.roster import Roster
from server.run.folder import Checkpoint, RunFolder
from tests.builders.records import a_run, events
from tests.server.fleet import Fleet

PLAN = recipes.load("fedsimclr").plan({"sites": 3, "deadline": 0.4})
HELLO = Reply("hello", "", 0, examples=9, info={"channels": 1, "side": 8, "classes": []})


def hello_only(**sites: Reply) -> Fleet:
    """Sites that introduce themselves as they are told."""

    def app_of(reply: Reply) -> ClientApp:
        return build_app(lambda _context, _record: encode(reply.to_record()))

    return Fleet({name: app_of(replace(reply, site=name)) for name, reply in sites.items()})


def roster_of(grid: Fleet, said: list[str] | None = None) -> Roster:
    return Roster(grid, PLAN, "run", warn=(said if said is not None else []).append)


def test_a_site_that_has_not_answered_is_asked_again_when_it_has_said_hello() -> None:
    grid = hello_only(a=HELLO, b=HELLO, c=HELLO)
    who = roster_of(grid)
    assert set(who.refresh()) == {"a", "b", "c"}
    who.settle(["a", "b"], {"message-99": "c"}, late=True)
    grid.asleep = {"c"}
    for _ in range(3):
        assert set(who.refresh()) == {"a", "b"}
    assert grid.times("c", "hello") == 2  # once more, not at every look
    grid.asleep = set()
    assert set(who.refresh()) == {"a", "b", "c"}
    assert who.tardy == {"c"}
    who.settle(["c"], {}, late=False)
    assert who.tardy == set()


def test_a_site_that_was_offline_is_greeted_before_it_is_asked() -> None:
    grid = hello_only(a=HELLO, b=HELLO)
    who = roster_of(grid)
    who.refresh()
    grid.offline = {"b"}
    assert set(who.refresh()) == {"a"}
    grid.offline, grid.asleep = set(), {"b"}  # the SuperNode is back, its trainer is loading
    assert set(who.refresh()) == {"a"}
    grid.asleep = set()
    assert set(who.refresh()) == {"a", "b"}


def test_a_site_so_slow_that_it_is_greeted_twice_is_heard_at_the_first_answer(monkeypatch) -> None:
    """Or it would never be back: each hello is answered after the one before it."""
    grid = hello_only(a=HELLO)
    who = roster_of(grid)
    who.refresh()
    who.settle([], {"message-99": "a"}, late=True)
    grid.asleep = {"a"}
    who.refresh()
    first = grid.latest
    monkeypatch.setattr(roster, "GREET_AGAIN", 0.0)
    who.refresh()
    monkeypatch.undo()
    grid.awake_for = {first}
    assert set(who.refresh()) == {"a"}
    assert grid.times("a", "hello") == 3


def test_nobody_waits_for_a_newcomer_that_says_nothing() -> None:
    grid = hello_only(a=HELLO, b=HELLO)
    grid.asleep = {"b"}
    who = roster_of(grid)
    assert set(who.refresh()) == set(who.refresh()) == {"a"}
    grid.asleep = set()
    assert set(who.refresh()) == {"a", "b"}


def test_a_newcomer_whose_trainer_cannot_answer_is_greeted_again_later(monkeypatch) -> None:
    said: list[str] = []
    grid = hello_only(a=HELLO, b=HELLO)
    works = grid._nodes[3].app

    def broken(_context, _record):
        raise UserError("no trainer answers")

    grid._nodes[3].app = build_app(broken)
    who = roster_of(grid, said)
    assert set(who.refresh()) == set(who.refresh()) == {"a"}
    assert said == ["site b does not say who it is: no trainer answers"]
    grid._nodes[3].app = works
    monkeypatch.setattr(roster, "time", Later)
    assert set(who.refresh()) == {"a", "b"}


def test_a_site_that_has_taken_back_its_images_is_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(roster, "LATECOMERS", 0.1)
    said: list[str] = []
    grid = hello_only(a=HELLO, b=HELLO, c=HELLO)
    why = f"site c has taken back 9 images: {TOO_FEW_LEFT} (covey client remember)"

    def empty(_context, _record):
        raise UserError(why)

    grid._nodes[4].app = build_app(empty)
    who, began = roster_of(grid, said), time.monotonic()
    who.gather(20.0)
    assert time.monotonic() - began < 10 and set(who.sites) == {"a", "b"}
    assert said == [f"site c takes no part: {why}", "started with 2 of 3 sites"]
    assert who.reasons == {"c": why}


class Later:
    @staticmethod
    def monotonic() -> float:
        return 1e9


def test_the_classes_of_all_sites_together_have_a_bound(monkeypatch) -> None:
    monkeypatch.setattr(roster, "MOST_CLASSES", 3)
    said: list[str] = []
    names = {"a": ["cat", "dog"], "b": ["cat", "fox"], "c": ["hen"]}
    grid = hello_only(
        **{s: replace(HELLO, info={**HELLO.info, "classes": n}) for s, n in names.items()}
    )
    assert len(roster_of(grid, said).refresh()) == 2
    (line,) = said
    assert "classes are too many beside the others'" in line


def test_an_error_in_place_of_an_introduction_is_told_on_one_printable_line() -> None:
    rogue = ClientApp()

    @rogue.query()
    def answer(message: Message, _context: Context) -> Message:
        return Message(Error(1001, "no\x1b[2J\ntrainer" + "x" * 5000), reply_to=message)

    said: list[str] = []
    assert not roster_of(Fleet({"a": rogue}), said).refresh()
    (line,) = said
    assert line.isprintable() and len(line) < 1000


def test_answers_that_came_too_late_are_taken_out_of_the_superlink() -> None:
    grid = hello_only(a=HELLO)
    who = roster_of(grid)
    node = who.refresh()["a"]
    message = Instruction("train", "run", 1, PLAN).to_record()
    (late,) = grid.push_messages([grid.create_message(message, "train", node, "1")])
    who.settle([], {late: "a"}, late=True)
    who.refresh()
    assert late not in grid._waiting


def federation(tmp_path: Path, **options: object) -> tuple[Fleet, Callable[[], None]]:
    """Three sites with digits, and what runs two rounds over them."""
    small = {"dataset": "digits", "images": 90, "sites": 3, "rounds": 2, "partition": "iid"}
    plan = recipes.load("fedsimclr").plan({**small, "batch-size": 16, **options})
    data = planned_data(plan)
    workshop = Workshop(pick_device("cpu"))
    sites = sites_of(data, planned_partition(plan, data), tmp_path / "sites", workshop)
    grid = Fleet({s.trainer.site: build_app(lambda _c, r, s=s: s.handle(r)) for s in sites})
    return grid, lambda: run(grid, plan, RunFolder(tmp_path / "run"), "in-process")


def test_a_round_closes_when_as_many_have_answered_as_were_wanted(tmp_path: Path) -> None:
    grid, go = federation(
        tmp_path, **{"participation": 0.34, "over-sampling": 3, "deadline": 60, "rounds": 1}
    )
    go()
    (trained,) = events(tmp_path / "run", "round")
    assert len(trained["answered"]) == 1 and len(trained["missing"]) == 2
    assert [grid.times(f"site-{i}", "train") for i in range(3)] == [1, 1, 1]
    assert trained["seconds"]["total"] < 60


def test_a_sleeping_site_costs_one_deadline_and_is_back_when_it_wakes(tmp_path: Path) -> None:
    grid, go = federation(tmp_path, deadline=3, rounds=4)
    asleep_in_round_one(grid, wakes_after=3)
    go()
    rounds = events(tmp_path / "run", "round")
    assert [r["missing"] for r in rounds] == [["site-2"], ["site-2"], ["site-2"], []]
    assert rounds[0]["seconds"]["total"] > 3
    assert rounds[3]["answered"] == ["site-0", "site-1", "site-2"]
    assert grid.times("site-2", "train") == 2


def asleep_in_round_one(grid: Fleet, wakes_after: int) -> None:
    """site-2 falls asleep when it is first asked to train, until site-0 has been so often."""
    original = grid.push_messages

    def push(messages):
        ids = original(messages)
        if grid.times("site-0", "train") == 1:
            grid.asleep = {"site-2"}
        if grid.times("site-0", "train") > wakes_after - 1 and grid.asked[-1][1] != "hello":
            grid.asleep = set()
        return ids

    grid.push_messages = push  # type: ignore[method-assign]


def test_all_sites_gone_and_back_goes_on_by_itself(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(asking, "LOOK", 0.05)
    grid, go = federation(tmp_path, deadline=30)
    original = RunFolder.log

    def log(folder, event):
        original(folder, event)
        if event.event == "round" and event.round == 1:
            grid.offline = {"site-0", "site-1", "site-2"}
        if event.event == "warning" and "waiting" in event.text:
            threading.Timer(0.3, grid.offline.clear).start()

    monkeypatch.setattr(RunFolder, "log", log)
    go()
    (warning,) = events(tmp_path / "run", "warning")
    assert "0 sites are there, too few for the quorum 0.5: waiting up to 30 s" in warning["text"]
    assert [r["answered"] for r in events(tmp_path / "run", "round")] == [
        ["site-0", "site-1", "site-2"]
    ] * 2


def test_one_site_alone_does_not_go_on_as_if_it_were_the_federation(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(asking, "LOOK", 0.05)
    grid, go = federation(tmp_path, deadline=0.5)
    original = RunFolder.log

    def log(folder, event):
        original(folder, event)
        if event.event == "round":
            grid.offline = {"site-1", "site-2"}

    monkeypatch.setattr(RunFolder, "log", log)
    with pytest.raises(UserError, match="round 2: the quorum was missed 3 times"):
        go()
    assert len(events(tmp_path / "run", "round")) == 1


def test_a_run_that_starts_without_a_site_says_so_in_its_metrics(tmp_path: Path) -> None:
    grid, go = federation(tmp_path, deadline=1.5, rounds=1)
    grid.offline = {"site-2"}
    go()
    (warning,) = events(tmp_path / "run", "warning")
    assert warning["text"] == "started with 2 of 3 sites"


def test_a_run_goes_on_where_a_site_with_classes_of_its_own_is_gone(tmp_path: Path) -> None:
    """The number of clusters, which was that of the classes, stays."""
    plan = PLAN.model_copy(update={"clusters": 7}).model_dump(mode="json", by_alias=True)
    began = RunFolder(tmp_path)
    assert began.began_with() is None
    whole = a_run(plan=plan, settled=("clusters",), classes=tuple("abcdefg"))
    began.begin(whole)
    began.save(Checkpoint(1, 0, {}))
    goes_on = RunFolder(tmp_path)
    before = goes_on.began_with()
    assert before is not None and before.clusters == 7
    rest = {"north": whole.sites["north"]}
    goes_on.begin(a_run(plan=plan, sites=rest, classes=tuple("abc")))
    assert goes_on.run == whole
