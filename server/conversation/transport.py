"""One exchange with the sites: push a message to each, yield the answers as they come.

Flower's `send_and_receive` polls every 3 seconds and returns all replies at once, so that the
server would hold every site's model. Here each waiting message is asked for by itself, often, and
handed on before the next is pulled.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from flwr.app import Message
from flwr.serverapp import Grid

POLL = 0.2  # seconds between two looks for answers
CLOCKS = 310.0  # seconds by which Flower lets a site's clock differ, and a little


def push(grid: Grid, messages: Mapping[str, Message]) -> dict[str, str]:
    """Push `messages` (site -> message); message id -> site of those that could be pushed."""
    ids = grid.push_messages(list(messages.values()))
    return {mid: site for mid, site in zip(ids, messages, strict=False) if mid is not None}


def hear(
    grid: Grid,
    waiting: dict[str, str],
    deadline: float,
    enough: Callable[[float], bool] = lambda _seconds: False,
) -> Iterator[tuple[str, Message]]:
    """Yield (site, answer) in order of arrival, and take its message out of `waiting` (message id
    -> site).

    Ends when all have answered, when `enough` says so of the seconds so far, or after `deadline`
    seconds with whoever has answered. An answer may carry an error.
    """
    start = time.monotonic()
    while waiting:
        answered = 0
        for message_id in list(waiting):
            for message in grid.pull_messages([message_id]):
                answered += 1
                yield waiting.pop(message_id), message
                del message
            if enough(time.monotonic() - start):
                return
        if not waiting or time.monotonic() - start >= deadline:
            return
        if not answered:
            time.sleep(POLL)


def drop(grid: Grid, message_ids: Iterable[str]) -> None:
    """Take answers that came too late out of the SuperLink, where each is as large as a model. An
    engine whose sites answer only when they are asked has none."""
    if not getattr(grid, "lazy", False):
        for message_id in message_ids:
            list(grid.pull_messages([message_id]))
