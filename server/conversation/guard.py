"""A Grid whose answers cannot hurt the server: what cannot be read comes as an error of its site.

Flower puts an answer together from objects that the site has made, before anybody has looked at
them: a malformed one raises where all sites' answers are pulled, and a few bytes may ask to be
repeated to any length. Here the first becomes an error message, which is refused like any other,
and the second ends at a limit of memory.
"""

import resource
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
from flwr.app import Error, Message
from flwr.serverapp import Grid

from common.protocol.messages import wire_size
from common.utils.errors import plain
from server.conversation.around_grid import AroundGrid
from server.conversation.transport import Waiting

UNREADABLE = 1001  # as of client/app.py: Flower's own codes are small
LEAST = 1 << 30  # bytes that reading an answer may take, however small the model
TIMES = 8  # or this many times what was sent, if that is more


class GuardedGrid(AroundGrid):
    """`grid`, with `pull_messages` as above; everything else is the grid's own."""

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self._refusals: dict[str, Message] = {}  # by the id of what was asked
        self._allowance = LEAST

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push, and have an error ready in the name of each who is asked."""
        asked = list(messages)
        ids = list(self._grid.push_messages(asked))
        for message_id, message in zip(ids, asked, strict=False):
            if message_id:
                error = Error(UNREADABLE, "its answer cannot be read")
                self._refusals[message_id] = Message(error, reply_to=message)
        for message in asked[:1]:
            self._allowance = max(self._allowance, TIMES * wire_size(message.content))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The answers that are there, one by one; an error for one that cannot be read."""
        for message_id in message_ids:
            yield from self._guarded(message_id, partial(self._pull, message_id))

    def _pull(self, message_id: str) -> list[Message]:
        return list(self._grid.pull_messages([message_id]))

    def _guarded(self, message_id: str, read: Callable[[], list[Message]]) -> list[Message]:
        try:
            with limited_memory(self._allowance):
                answers = read()
        except (httpx.HTTPError, OSError):
            raise  # the SuperLink, not the site
        except Exception as error:  # whatever a site's bytes may bring Flower to raise
            answers = [self._unreadable(message_id, error)]
        if answers:
            self._refusals.pop(message_id, None)
        return answers

    def _unreadable(self, message_id: str, error: Exception) -> Message:
        if message_id not in self._refusals:
            raise error
        answer = self._refusals[message_id]
        why = plain(f"{answer.error.reason}: {type(error).__name__}: {error}")
        answer.error = Error(UNREADABLE, why)
        return answer


class WaitingGuard(GuardedGrid):
    """As `GuardedGrid`, of a grid whose questions may wait."""

    def __init__(self, grid: Grid, waits: Waiting) -> None:
        super().__init__(grid)
        self._waits = waits

    def next_answer(
        self, message_ids: Collection[str], seconds: float
    ) -> tuple[str, Callable[[], Message]] | None:
        """The next answer; an error for one that cannot be read."""
        found = self._waits.next_answer(message_ids, seconds)
        if found is None:
            return None
        message_id, opened = found
        return message_id, lambda: self._guarded(message_id, lambda: [opened()])[0]

    def forget(self, message_ids: Iterable[str]) -> None:
        """The grid's own."""
        gone = list(message_ids)
        for message_id in gone:
            self._refusals.pop(message_id, None)
        self._waits.forget(gone)


def guarded(grid: Grid) -> GuardedGrid:
    """`grid` with a guard, which waits where it does."""
    return WaitingGuard(grid, grid) if isinstance(grid, Waiting) else GuardedGrid(grid)


@contextmanager
def limited_memory(allowance: int) -> Iterator[None]:
    """Inside, this process gets at most `allowance` bytes more, then `MemoryError`; where the
    system counts no process's memory, nothing is limited."""
    used = _used()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = used + allowance
    if used == 0 or any(
        limit != resource.RLIM_INFINITY and limit < ceiling for limit in (soft, hard)
    ):
        yield  # nothing is known, or less is allowed anyway
        return
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _used() -> int:
    """Bytes of this process that RLIMIT_DATA counts; 0 where Linux does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmData:")]
    return 1024 * int(sizes[0]) if sizes else 0
