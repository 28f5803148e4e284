"""A ServerApp's grid whose messages go whole, and whose questions wait at the SuperLink.

It stands in the place of Flower's HttpGrid, which keeps the connection, and all that is not about
messages. At a SuperLink that does not offer it, Flower's grid is used as it is.
"""

from collections.abc import Callable, Collection, Iterable
from logging import INFO

from flwr.app import Message
from flwr.serverapp import Grid
from flwr.supercore import log

from deploy.flower import inside
from deploy.flower.whole import AppCalls, NotOfferedError
from server.conversation.around_grid import AroundGrid

CLIENT = "_runtime_client"  # what an HttpGrid speaks to the SuperLink with


def whole_messages(grid: Grid) -> Grid:
    """`grid` with whole messages, if it is Flower's over HTTP and its SuperLink has them."""
    if not hasattr(grid, CLIENT) or not inside.usable(inside.ASKING, "messages go"):
        return grid
    try:
        calls = AppCalls(getattr(grid, CLIENT))
        calls.pull((), (), 0.0)
    except NotOfferedError:
        log(INFO, "covey: this SuperLink takes messages with Flower's own calls")
        return grid
    return WholeGrid(grid, calls)


class WholeGrid(AroundGrid):
    """`grid`, but that messages are pushed with `calls` and answers come one by one, each whole."""

    def __init__(self, grid: Grid, calls: AppCalls) -> None:
        super().__init__(grid)
        self._calls = calls
        self._taken: list[str] = []  # messages whose answers the SuperLink need not keep

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push all in one request; the id of each, "" of one that the SuperLink did not take."""
        asked = list(messages)
        return self._calls.push(asked) if asked else []

    def next_answer(
        self, message_ids: Collection[str], seconds: float
    ) -> tuple[str, Callable[[], Message]] | None:
        """The next answer to one of these messages, which is then no longer at the SuperLink: the
        message's id, and what puts the answer together. None after `seconds` without one, or
        earlier when a site has come."""
        taken, self._taken = self._taken, []
        try:
            delivery = self._calls.pull(message_ids, taken, seconds)
        except BaseException:
            self._taken = taken + self._taken
            raise
        if delivery is None:
            return None
        message_id = delivery.head.metadata.reply_to_message_id
        self._taken.append(message_id)
        return message_id, delivery.open

    def forget(self, message_ids: Iterable[str]) -> None:
        """Nobody wants the answers to these messages any more; told with the next question."""
        self._taken.extend(message_ids)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The answers that are there."""
        waiting = set(message_ids)
        while waiting and (found := self.next_answer(waiting, 0.0)) is not None:
            message_id, opened = found
            waiting.discard(message_id)
            yield opened()
