"""A site's answer that Flower cannot put together is that site's error; the server's is raised."""

import httpx
import numpy as np
import pytest
from flwr.app import Message, RecordDict

from client.app import build_app
from common.config import recipes
from common.protocol.messages import Instruction, encode
from deploy.engines.in_process import InProcessGrid
from server.conversation.guard import UNREADABLE, GuardedGrid, limited_memory
from server.conversation.transport import hear, push

HELLO = Instruction("hello", "run", 0, recipes.load("fedsimclr").plan({}))


def repeats_a_chunk() -> bytes:
    chunk, data = b"x" * 2**22, bytearray()
    for _ in range(2**20):
        data += chunk
    return bytes(data)


def raiser(error: Exception):
    def raise_it() -> bytes:
        raise error

    return raise_it


class Flower(InProcessGrid):
    """Puts the answers of the site `bad` together as `make` does."""

    def __init__(self, make) -> None:
        good = build_app(lambda _context, _record: encode(RecordDict()))
        super().__init__({"bad": good, "good": good})
        self.make = make

    def pull_messages(self, message_ids):
        for message_id in message_ids:
            message = self._waiting[message_id]
            if self._nodes[message.metadata.dst_node_id].name == "bad":
                self.make()
            yield from super().pull_messages([message_id])


def answers(make) -> dict[str, Message]:
    grid = GuardedGrid(Flower(make))
    record = Instruction.to_record(HELLO)
    asked = {n.name: Message(record, n.node_id, "query") for n in grid.get_nodes()}
    return dict(hear(grid, push(grid, asked), deadline=5.0))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (repeats_a_chunk, "MemoryError"),
        (raiser(KeyError("arraychunk_ids")), "KeyError: 'arraychunk_ids'"),
        (
            raiser(ValueError("\x1b[2J\n" + "x" * 10_000)),
            "ValueError: \N{REPLACEMENT CHARACTER}[2J",
        ),
        (raiser(RecursionError("too deep")), "RecursionError"),
    ],
    ids=["a bomb", "no such key", "control characters", "deep nesting"],
)
def test_what_cannot_be_read_is_an_error_of_its_site(make, why) -> None:
    found = answers(make)
    assert not found["good"].has_error()
    assert found["bad"].error.code == UNREADABLE
    reason = found["bad"].error.reason
    assert reason.startswith(f"its answer cannot be read: {why}")
    assert reason.isprintable() and len(reason) <= 300


@pytest.mark.parametrize("error", [httpx.ConnectError("gone"), ConnectionResetError()])
def test_a_superlink_that_cannot_be_reached_is_no_fault_of_a_site(error) -> None:
    with pytest.raises(type(error)):
        answers(raiser(error))


def test_the_limit_of_memory_ends_with_the_answer() -> None:
    # more than the allocator can have kept of what other tests gave back: that is not new memory
    with limited_memory(2**26), pytest.raises(MemoryError):
        np.empty(2**32, np.uint8)
    assert np.empty(2**32, np.uint8).size == 2**32
