"""Objects that many sites fetch at about the same time, read from the database once.

A round's model goes to every site. What an object is called says what it holds (SHA-256), so that
one that was read is never out of date.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

MOST = 2**25  # bytes of all that are remembered
Read = Callable[[str], Awaitable[bytes | None]]


class Recent:
    """What was read last, for one event loop."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._bytes = most, 0
        self._contents: OrderedDict[str, bytes] = OrderedDict()
        self._reading: dict[str, asyncio.Task[bytes | None]] = {}

    async def get(self, name: str, read: Read) -> bytes | None:
        """An object; `read` from the database unless it is remembered or being read."""
        found = self._contents.get(name)
        if found is not None:
            self._contents.move_to_end(name)
            return found
        task = self._reading.get(name)
        if task is None:
            task = self._reading[name] = asyncio.ensure_future(self._fetch(name, read))
            task.add_done_callback(lambda _: self._reading.pop(name))
        return await asyncio.shield(task)  # others wait for it, too

    async def _fetch(self, name: str, read: Read) -> bytes | None:
        content = await read(name)
        if content is not None and len(content) <= self._most:
            self._contents[name] = content
            self._bytes += len(content)
            while self._bytes > self._most:
                _, oldest = self._contents.popitem(last=False)
                self._bytes -= len(oldest)
        return content
