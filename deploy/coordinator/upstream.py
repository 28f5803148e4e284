"""The front's connections to the SuperLink: kept, one request at a time on each, bodies as streams.

A client as small as the front needs. A general one looks at each connection that it keeps with each
request, which with hundreds of sites costs more than the requests; one that keeps few opens a new
connection, with its TLS handshake, for nearly every request. Here the connection that was used last
is taken next, and nothing else is looked at.

How long a body is, is always said by this side (RFC 9112, 6): whatever lengths a site wrote into
its headers must have been dropped before.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self

from deploy.coordinator.upstream_connection import Connection, Header, UpstreamError
from deploy.identity.address import Address

CONNECT = 20.0  # seconds, with the TLS handshake, for which a busy SuperLink may take long
IDLE = 60.0  # seconds; the SuperLink closes after 75: none is used that has just been closed


class Answer:
    """What came back: its status, its headers, and its body, to be taken once and then closed."""

    def __init__(self, connection: Connection, upstream: "Upstream", whole: bool) -> None:
        self._connection, self._upstream = connection, upstream
        self._reusable = whole  # the request was sent to its end
        self.status, self.headers = connection.status, connection.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes; `UpstreamError` where it is cut off."""
        while chunk := await self._connection.chunk():
            yield chunk

    async def aclose(self) -> None:
        """Give the connection back, or up where the body was not taken to its end."""
        if self._reusable and self._connection.reusable:
            self._upstream.keep(self._connection)
        else:
            self._connection.abort()


class Upstream:
    """Requests to the SuperLink at `address` over `tls`; a context manager, which closes what is
    idle."""

    def __init__(self, address: Address, tls: ssl.SSLContext) -> None:
        self._address, self._tls = address, tls
        self._idle: deque[tuple[float, Connection]] = deque()  # used last: at the right

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        while self._idle:
            self._idle.pop()[1].abort()

    async def send(
        self,
        method: str,
        path: str,
        headers: Iterable[Header],
        body: AsyncIterator[bytes] | None = None,
        length: int | None = 0,
    ) -> Answer:
        """The answer to one request, as soon as its headers are there. `length` is that of `body`,
        None where it will show; `UpstreamError`, and whatever `body` raises."""
        connection = await self._open()
        try:
            connection.begin(_head(method, path, self._address, headers, body, length))
            whole = body is None or await _send_body(connection, body, length)
            await connection.answered()
        except BaseException:
            connection.abort()
            raise
        return Answer(connection, self, whole)

    async def _open(self) -> Connection:
        while self._idle:
            _, connection = self._idle.pop()
            if connection.reusable:
                return connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT):
                _, made = await loop.create_connection(
                    Connection, self._address.host, self._address.port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise UpstreamError(str(error)) from None
        return made

    def keep(self, connection: Connection) -> None:
        """For the next request; those that nobody has used for long are closed."""
        now = asyncio.get_running_loop().time()
        self._idle.append((now, connection))
        while now - self._idle[0][0] > IDLE:
            self._idle.popleft()[1].abort()


def _head(
    method: str,
    path: str,
    address: Address,
    headers: Iterable[Header],
    body: AsyncIterator[bytes] | None,
    length: int | None,
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1".encode("ascii"), f"host: {address}".encode("ascii")]
    for name, value in headers:
        if any(byte in part for part in (name, value) for byte in (b"\r", b"\n", b"\0")):
            raise UpstreamError("a header that is none")
        lines.append(name + b": " + value)
    if body is not None:
        chunked = b"transfer-encoding: chunked"
        lines.append(chunked if length is None else b"content-length: %d" % length)
    return b"\r\n".join([*lines, b"", b""])


async def _send_body(
    connection: Connection, body: AsyncIterator[bytes], length: int | None
) -> bool:
    """Whether it was sent to its end, which it is not where the answer is there before."""
    sent = 0
    async for chunk in body:
        if connection.has_answered:
            return False
        if not chunk:
            continue
        sent += len(chunk)
        if length is not None and sent > length:
            raise UpstreamError("a body that is longer than it was said to be")
        framed = b"%x\r\n%b\r\n" % (len(chunk), chunk) if length is None else chunk
        await connection.write(framed)
    if length is None:
        await connection.write(b"0\r\n\r\n")
    elif sent < length:
        raise UpstreamError("a body that is shorter than it was said to be")
    return True
