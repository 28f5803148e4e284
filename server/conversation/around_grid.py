"""A grid around another one: everything is the other's own but what is overridden."""

from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo  # pylint: disable=E0611
from flwr.serverapp import Grid
from flwr.supercore.run import Run


class AroundGrid(Grid):
    """`grid`, for subclasses that push and pull messages in another way."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def set_run(self, run: Run) -> None:
        """The grid's own."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The grid's own."""
        return self._grid.run

    def create_message(self, *given: Any, **named: Any) -> Message:
        """The grid's own."""
        return self._grid.create_message(*given, **named)

    def get_node_ids(self) -> Iterable[int]:
        """The grid's own."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """The grid's own."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """The grid's own."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The grid's own."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """The grid's own, past whatever a subclass does: Covey never calls it."""
        return self._grid.send_and_receive(messages, timeout=timeout)
