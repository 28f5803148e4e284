"""One exchange with the sites: push a message to each, yield the answers as they come.

Flower's `send_and_receive` polls every 3 seconds and returns all replies at once, so that the
server would hold every site's model. Here one answer is handed on before the next is pulled: where
the grid can wait (`Waiting`), as soon as it is there; of another grid each message is asked for by
itself, often.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol, runtime_checkable

from flwr.app import Message
from flwr.serverapp import Grid

POLL = 0.2  # seconds between two looks for answers, where the grid cannot wait
HELD = 1.0  # seconds for which a question waits, where it can: then the round may be over
CLOCKS = 310.0  # seconds by which Flower lets a site's clock differ, and a little


@runtime_checkable
class Waiting(Protocol):
    """A grid whose questions may wait."""

    def next_answer(
        self, message_ids: Collection[str], seconds: float
    ) -> tuple[str, Callable[[], Message]] | None:
        """The next answer to one of these messages: the message's id, and what puts the answer
        together. None after `seconds` without one, or earlier when a site has come."""

    def forget(self, message_ids: Iterable[str]) -> None:
        """Nobody wants the answers to these messages any more, there or not."""


def push(grid: Grid, messages: Mapping[str, Message]) -> dict[str, str]:
    """Push `messages` (site -> message); message id -> site of those that could be pushed."""
    ids = grid.push_messages(list(messages.values()))
    return {mid: site for mid, site in zip(ids, messages, strict=False) if mid}


def hear(
    grid: Grid,
    waiting: dict[str, str],
    deadline: float,
    enough: Callable[[float], bool] = lambda _seconds: False,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[tuple[str, Message]]:
    """Yield (site, answer) in order of arrival, and take its message out of `waiting` (message id
    -> site).

    Ends when all have answered, when `enough` says so of the seconds so far, or after `deadline`
    seconds with whoever has answered. An answer may carry an error. `meanwhile` is called every
    moment in which nothing comes.
    """
    start = time.monotonic()
    while waiting:
        answered = 0
        left = start + deadline - time.monotonic()
        for message_id, message in _next_answers(grid, waiting, left):
            answered += 1
            yield waiting.pop(message_id), message
            del message
            if enough(time.monotonic() - start):
                return
        seconds = time.monotonic() - start
        if not answered:
            if seconds >= deadline or enough(seconds):
                return
            meanwhile()


def _next_answers(
    grid: Grid, waiting: Collection[str], left: float
) -> Iterator[tuple[str, Message]]:
    """(message id, answer) of those that are there; waits a little, at most `left` seconds, where
    there are none."""
    if isinstance(grid, Waiting):
        found = grid.next_answer(waiting, max(0.0, min(HELD, left)))
        if found is not None:
            message_id, opened = found
            yield message_id, opened()
        return
    answered = False
    for message_id in list(waiting):
        for message in grid.pull_messages([message_id]):
            answered = True
            yield message_id, message
            del message
    if not answered and left > 0:
        time.sleep(POLL)


def pause(grid: Grid, seconds: float) -> None:
    """Wait for at most `seconds`, or until a site has come, where the grid can tell."""
    if isinstance(grid, Waiting):
        grid.next_answer((), seconds)
    else:
        time.sleep(min(POLL, seconds))


def withdraw(grid: Grid, message_ids: Iterable[str]) -> None:
    """Have sites that have not begun to work on these messages not begin, where the grid can."""
    if isinstance(grid, Waiting):
        grid.forget(message_ids)


def drop(grid: Grid, message_ids: Iterable[str]) -> None:
    """Take answers that came too late out of the SuperLink, where each is as large as a model. An
    engine whose sites answer only when they are asked has none."""
    if isinstance(grid, Waiting):
        grid.forget(message_ids)
    elif not getattr(grid, "lazy", False):
        for message_id in message_ids:
            list(grid.pull_messages([message_id]))
