"""Hearing answers from a grid that can wait: one question at a time, none asked in vain."""

import time
from collections.abc import Callable, Collection, Iterable
from functools import partial

import pytest
from flwr.app import Message

from deploy.engines.in_process import InProcessGrid
from server.conversation import transport
from server.conversation.transport import drop, hear, pause, withdraw


class Waits(InProcessGrid):
    """Answers are there after so many seconds (message id -> seconds); `questions` has what was
    asked for, and for how long."""

    def __init__(self, after: dict[str, float]) -> None:
        super().__init__({})
        self.begun = time.monotonic()
        self.after = after
        self.questions: list[tuple[set[str], float]] = []
        self.forgotten: list[str] = []

    def next_answer(
        self, message_ids: Collection[str], seconds: float
    ) -> tuple[str, Callable[[], Message]] | None:
        self.questions.append((set(message_ids), seconds))
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            for message_id in message_ids:
                if now - self.begun >= self.after.get(message_id, 1e9):
                    return message_id, partial(str, f"answer {message_id}")  # type: ignore
            if now >= end:
                return None
            time.sleep(0.01)

    def forget(self, message_ids: Iterable[str]) -> None:
        self.forgotten += message_ids


def test_answers_come_in_the_order_of_their_arrival_each_asked_for_once() -> None:
    grid = Waits({"a": 0.3, "b": 0.1, "c": 0.0})
    waiting = {"a": "north", "b": "south", "c": "east"}
    assert list(hear(grid, waiting, 5.0)) == [
        ("east", "answer c"),
        ("south", "answer b"),
        ("north", "answer a"),
    ]
    assert waiting == {}
    assert [asked for asked, _ in grid.questions] == [{"a", "b", "c"}, {"a", "b"}, {"a"}]


def test_the_deadline_ends_it_with_those_that_are_there() -> None:
    grid = Waits({"a": 0.0, "b": 100.0})
    waiting = {"a": "north", "b": "south"}
    start = time.monotonic()
    assert [site for site, _ in hear(grid, waiting, 0.4)] == ["north"]
    assert 0.4 <= time.monotonic() - start < 2.0
    assert waiting == {"b": "south"}
    assert all(seconds <= 0.4 for _, seconds in grid.questions)


def test_without_time_all_that_are_there_are_heard_and_nobody_is_waited_for() -> None:
    grid = Waits({"a": 0.0, "b": 0.0, "c": 100.0})
    waiting = {"a": "north", "b": "south", "c": "east"}
    assert len(list(hear(grid, waiting, 0.0))) == 2
    assert all(seconds == 0.0 for _, seconds in grid.questions)


def test_it_is_over_when_it_is_enough_even_if_nobody_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "HELD", 0.1)
    grid = Waits({})
    start = time.monotonic()
    assert list(hear(grid, {"a": "north"}, 60.0, lambda seconds: seconds > 0.3)) == []
    assert time.monotonic() - start < 5.0


def test_a_pause_is_a_question_about_nothing_that_the_grid_may_cut_short() -> None:
    grid = Waits({})
    pause(grid, 0.2)
    assert grid.questions == [(set(), 0.2)]


def test_what_is_withdrawn_or_dropped_is_forgotten_without_being_fetched() -> None:
    grid = Waits({"a": 0.0, "b": 0.0})
    withdraw(grid, ["a"])
    drop(grid, ["b"])
    assert grid.forgotten == ["a", "b"] and grid.questions == []
