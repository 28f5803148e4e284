"""One exchange with the sites: push a message to each, yield the answers as they come.

Flower's `send_and_receive` polls every 3 seconds and returns all replies at once, so that the
server would hold every site's model. Here each waiting message is asked for by itself, often, and
handed on before the next is pulled.
"""

import time
from collections.abc import Callable, Iterator, Mapping

from flwr.app import Message
from flwr.serverapp import Grid

POLL = 0.2  # seconds between two looks for answers


def converse(
    grid: Grid,
    messages: Mapping[str, Message],
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[str, Message]]:
    """Push `messages` (site -> message), yield (site, answer) in order of arrival.

    Ends when all have answered, or `deadline` seconds after the push with whoever has; a message
    that could not be pushed has no answer. An answer may carry an error.
    """
    ids = grid.push_messages(list(messages.values()))
    waiting = {mid: site for mid, site in zip(ids, messages, strict=False) if mid is not None}
    end = clock() + deadline
    while waiting:
        answered = 0
        for message_id in list(waiting):
            for message in grid.pull_messages([message_id]):
                answered += 1
                yield waiting.pop(message_id), message
                del message
        if not waiting or clock() >= end:
            return
        if not answered:
            sleep(POLL)
