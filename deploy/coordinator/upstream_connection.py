"""One connection of the front's to the SuperLink, which carries one request at a time."""

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import cast

import httptools

ANSWER = 120.0  # seconds: a SuperLink that stores a large model answers late
HIGH = 2**18  # bytes of an answer that nobody has taken yet from where no more is read
UNSENT = 2**16  # bytes of a request that have not gone yet from where no more is taken
Header = tuple[bytes, bytes]


class UpstreamError(Exception):
    """The SuperLink does not answer, or not as a server does."""


class Connection(asyncio.Protocol):
    """One connection: `begin`, `write`, `answered`, and `chunk` until there is none. httptools
    calls `on_...`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._error: UpstreamError | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._news = asyncio.Event()  # something has come, or will never
        self._body: deque[bytes] = deque()
        self._waiting = 0  # bytes of it
        self._paused = self._complete = self._keep = False
        self.has_answered = False
        self.status = 0
        self.headers: list[Header] = []

    # -- for Upstream -----------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: the answer to the one before has been taken."""
        return self._error is None and self._complete and self._keep and not self._body

    def begin(self, head: bytes) -> None:
        """Send a request's head."""
        self._parser = httptools.HttpResponseParser(self)
        self._complete = self._keep = self.has_answered = False
        self.status, self.headers = 0, []
        self._news.clear()
        self._send(head)

    async def write(self, data: bytes) -> None:
        """Send a piece of its body, when those before it have gone or the answer is there."""
        if self._error is not None and not self.has_answered:
            raise self._error
        if self.has_answered:
            return
        self._send(data)
        if not self._writable.is_set():
            await _within(self._writable.wait(), ANSWER)

    async def answered(self) -> None:
        """When the answer's headers are there."""
        while not self.has_answered:
            await self._next()

    async def chunk(self) -> bytes:
        """The next piece of the answer's body, b"" at its end."""
        while not self._body and not self._complete:
            await self._next()
        if not self._body:
            return b""
        found = b"".join(self._body) if len(self._body) > 1 else self._body[0]
        self._body.clear()
        self._waiting = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return found

    async def _next(self) -> None:
        if self._error is not None:
            raise self._error
        self._news.clear()
        await _within(self._news.wait(), ANSWER)

    def abort(self) -> None:
        """Close it, whatever is under way."""
        self._fail("it was closed")

    def _send(self, data: bytes) -> None:
        if self._transport is None or self._error is not None:
            raise self._error or UpstreamError("there is no connection")
        self._transport.write(data)

    def _fail(self, why: str) -> None:
        if self._error is None:
            self._error = UpstreamError(why)
        if self._transport is not None:
            self._transport.abort()
        self._news.set()
        self._writable.set()

    # -- asyncio's --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As of any protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(UNSENT)

    def data_received(self, data: bytes) -> None:
        """Take a piece of the answer; the connection is given up where nobody has asked."""
        if self._parser is None or self._complete:
            self._fail("it answers where nobody has asked")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UpstreamError) as error:
            self._fail(str(error))
        if self._waiting > HIGH and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._news.set()

    def connection_lost(self, _error: Exception | None) -> None:
        """Whatever is missing will not come."""
        self._fail("the connection was closed")

    def pause_writing(self) -> None:
        """As of any protocol."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """As of any protocol."""
        self._writable.set()

    # -- httptools's ------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """All headers are there."""
        assert self._parser is not None
        if self.has_answered:
            raise UpstreamError("two answers to one request")
        self.status = self._parser.get_status_code()
        self._keep = self._parser.should_keep_alive()
        self.has_answered = self.status >= 200
        if not self.has_answered:
            raise UpstreamError("an answer that comes in two")

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body.append(data)
        self._waiting += len(data)

    def on_message_complete(self) -> None:
        """The end of the body."""
        self._complete = True


async def _within(awaitable: Awaitable[object], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await awaitable
    except TimeoutError:
        raise UpstreamError("the SuperLink does not answer") from None
