"""Bodies that come in at the SuperLink: never whole in memory, never endlessly slow.

They lie in files in the server's folder, where large objects stay (`deploy/flower/kept.py`).
"""

import asyncio
import io
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO

from anyio import to_thread
from fastapi import HTTPException
from starlette.requests import Request

from deploy.flower.frames import AT_ONCE, Bounds, FrameError, Scanner, TooLargeError
from deploy.flower.kept import Kept, Reference
from deploy.flower.whole import IDENTIFIER

PATIENCE = 30.0  # seconds without a byte
GRACE, SLOWEST = 60.0, 8192.0  # seconds that a body may take, and bytes a second beyond them
IN_MEMORY = 2**18  # bytes of a body that comes in
MOST_IN_FILES = 2**34  # bytes of all bodies that are coming in


class GoneError(Exception):
    """Whoever asked has closed the connection."""


class Spool:
    """Where bodies lie while they come in: files among those that are `kept`."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.used = 0  # bytes


async def read_small(request: Request, most: int) -> bytes:
    """A body of at most `most` bytes."""
    body, more = b"", True
    while more:
        try:
            async with asyncio.timeout(PATIENCE):
                message = await request.receive()
        except TimeoutError:
            raise HTTPException(408, "the body comes too slowly") from None
        if message["type"] == "http.disconnect":
            raise GoneError
        body += message.get("body", b"")
        if len(body) > most:
            raise HTTPException(413, f"a question may have {most} bytes")
        more = message.get("more_body", False)
    return body


class Incoming:
    """A request's body, in parts that `bounds` allow; to be closed."""

    def __init__(self, request: Request, spool: Spool, bounds: Bounds) -> None:
        self._receive = request.receive
        self._spool = spool
        self._scanner = Scanner(bounds)
        self._file: IO[bytes] = io.BytesIO()
        self._name = ""  # of the file, where it is one
        self._references: dict[str, bytes] = {}  # to objects that are to stay in it
        self._keep = False
        self._pending = bytearray()
        self._objects: dict[str, tuple[int, int]] = {}  # id -> number of its part, bytes
        self._counted = 0  # bytes of it that the spool knows of
        self._written = 0  # bytes of it that are in the file
        self._began = asyncio.get_running_loop().time()
        self._ended = False

    async def first(self) -> bytes:
        """The first part, as soon as it is there."""
        while self._scanner.complete == 0 and not self._ended:
            await self._chunk()
        if self._scanner.complete == 0:
            raise HTTPException(400, "the body has no parts")
        await self._write()
        if self._in_memory(0):
            return self._part(0)
        return await to_thread.run_sync(self._part, 0)

    def bound(self, bounds: Bounds) -> None:
        """From here on other bounds hold."""
        self._scanner.bounds = bounds
        if self._scanner.expected > bounds.whole:
            raise HTTPException(413, f"a body may have {bounds.whole} bytes")

    async def rest(self, check: Callable[[], None] = lambda: None) -> None:
        """Take all that is left; `check` may refuse in between."""
        while not self._ended:
            await self._chunk()
            check()
        await self._write()

    async def others(self) -> list[bytes]:
        """The parts but the first."""
        numbers = range(1, len(self._scanner.places))
        if self._in_memory(0):
            return list(map(self._part, numbers))
        return await to_thread.run_sync(lambda: list(map(self._part, numbers)))

    def sizes(self) -> Mapping[str, int]:
        """id -> bytes, where the parts but the first are objects; for a thread."""
        if not self._objects:
            for number, (_, length) in enumerate(self._scanner.places[1:], start=1):
                self._objects[self._identifier(number)] = (number, length - IDENTIFIER)
        return {name: length for name, (_, length) in self._objects.items()}

    def content(self, object_id: str) -> bytes:
        """An object; for a thread."""
        return self._part(self._objects[object_id][0], IDENTIFIER)

    @property
    def in_file(self) -> bool:
        """Whether objects may stay where they are."""
        return bool(self._name)

    def leave(self, object_id: str) -> None:
        """An object that has been looked at may stay where it is, where that is a file."""
        if self.in_file:
            number, length = self._objects[object_id]
            offset = self._scanner.places[number][0] + IDENTIFIER
            self._references[object_id] = Reference(self._name, offset, length).encode()

    def reference(self, object_id: str) -> bytes | None:
        """What the database is to have in the place of an object that stays where it is."""
        found = self._references.get(object_id)
        self._keep = self._keep or found is not None
        return found

    def _identifier(self, number: int) -> str:
        offset, length = self._scanner.places[number]
        self._file.seek(offset)
        try:
            return self._file.read(min(length, IDENTIFIER)).decode("ascii")
        except UnicodeDecodeError:
            raise HTTPException(400, "an object without an id") from None

    def _part(self, number: int, begin: int = 0) -> bytes:
        offset, length = self._scanner.places[number]
        self._file.seek(offset + begin)
        return self._file.read(max(0, length - begin))

    async def _chunk(self) -> None:
        now = asyncio.get_running_loop().time()
        left = self._began + GRACE + self._scanner.seen / SLOWEST - now
        try:
            async with asyncio.timeout(min(PATIENCE, left)):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the body comes too slowly") from None
        if message["type"] == "http.disconnect":
            raise GoneError
        chunk = message.get("body", b"")
        try:
            self._scanner.feed(chunk)
            if not message.get("more_body", False):
                self._ended = True
                self._scanner.finish()
        except TooLargeError as error:
            raise HTTPException(413, str(error)) from None
        except FrameError as error:
            raise HTTPException(400, str(error)) from None
        self._pending += chunk
        self._spool.used += len(chunk)
        self._counted += len(chunk)
        if self._spool.used > MOST_IN_FILES:
            raise HTTPException(503, "too much is coming in at once")
        if len(self._pending) >= AT_ONCE:
            await self._write()

    async def _write(self) -> None:
        pending, self._pending = self._pending, bytearray()
        if pending and self._in_memory(len(pending)):
            self._append(pending)  # another thread costs more than that
        elif pending:
            await to_thread.run_sync(self._append, pending)
        self._written += len(pending)

    def _in_memory(self, more: int) -> bool:
        """Whether what has come in is in memory, and will be with so many bytes more."""
        return not self._name and self._written + more <= IN_MEMORY

    def _append(self, data: bytearray) -> None:
        end = self._file.seek(0, 2)
        if not self._name and end + len(data) > IN_MEMORY:
            before = self._file
            before.seek(0)
            self._name, self._file = self._spool.kept.create()
            self._file.write(before.read())
        self._file.write(data)

    def close(self) -> None:
        """Give up what has come in, but for what is referred to."""
        self._file.close()
        if self._name:
            self._spool.kept.release(self._name, self._keep)
        self._spool.used -= self._counted

    def __enter__(self) -> "Incoming":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()
