"""Messages that go out from the SuperLink: read from the database object by object as they are
taken, and not endlessly slowly.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from fastapi import HTTPException, Response
from starlette.types import Receive, Scope, Send

from deploy.flower.bodies import GRACE, PATIENCE, SLOWEST, GoneError
from deploy.flower.frames import LENGTH, Piece, cut, size
from deploy.flower.objects import LARGE
from deploy.flower.transactions import Outgoing

SENDING = 64  # large objects that are in memory at once


class Turn:
    """One question or reply of a site that is under way; `over` when a newer one has come."""

    def __init__(self, turns: dict[tuple[str, int], "Turn"], key: tuple[str, int]) -> None:
        self._turns, self._key = turns, key
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        before = turns.get(key)
        if before is not None and not before.over.done():
            before.over.set_result(None)
        turns[key] = self

    def check(self) -> None:
        """Refuse to go on where it is over."""
        if self.over.done():
            raise HTTPException(409, "another process has asked with this key")

    def end(self) -> None:
        """Leave the place to the next."""
        if self._turns.get(self._key) is self:
            del self._turns[self._key]


class Stream(Response):
    """A message on its way out, until one of `stops` is done; `ended` is called with whether it was
    taken whole."""

    def __init__(
        self,
        outgoing: Outgoing,
        read: Callable[[str], Awaitable[bytes | None]],
        ended: Callable[[bool], Awaitable[None]],
        stops: Sequence["asyncio.Future[Any]"],
        sending: asyncio.Semaphore,
    ) -> None:
        super().__init__()
        self._outgoing, self._read, self._ended = outgoing, read, ended
        self._stops, self._sending = stops, sending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; `GoneError` if nobody takes it, or too slowly."""
        whole = False
        try:
            await self._send_all(send)
            whole = True
        finally:
            await self._ended(whole)

    async def _send_all(self, send: Send) -> None:
        length = size([len(self._outgoing.head), *self._outgoing.sizes])
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(length).encode("ascii")),
        ]
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in self._pieces():
            for part in cut(piece):
                if any(stop.done() for stop in self._stops):
                    raise GoneError("the connection was closed")
                left = began + GRACE + sent / SLOWEST - loop.time()
                try:
                    async with asyncio.timeout(min(PATIENCE, left)):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                except TimeoutError:
                    raise GoneError("the answer is taken too slowly") from None
                sent += len(part)
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self) -> AsyncIterator[Piece]:
        out = self._outgoing
        yield LENGTH.pack(len(out.head)) + out.head
        for name, length in zip(out.ids, out.sizes, strict=True):
            if name in out.early:
                yield LENGTH.pack(length) + out.early[name]
            elif length < LARGE:
                yield LENGTH.pack(length) + await self._object(name, length)
            else:
                async with self._sending:
                    yield LENGTH.pack(length)
                    yield await self._object(name, length)

    async def _object(self, name: str, length: int) -> bytes:
        content = await self._read(name)
        if content is None or len(content) != length:
            raise GoneError("its run has ended")
        return content
