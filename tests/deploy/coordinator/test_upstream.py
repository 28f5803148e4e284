"""The front's own client: connections are kept, bodies are framed by this side, and what is not an
answer is an error."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from deploy.coordinator import upstream_connection
from deploy.coordinator.upstream import Answer, Upstream
from deploy.coordinator.upstream_connection import UpstreamError
from deploy.identity.address import Address
from deploy.identity.certificates import issue_server, make_authority
from deploy.processes.supervisor import LOOPBACK

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-One: 1\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> tuple[Path, ssl.SSLContext]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = make_authority(folder)
    server = issue_server(authority, folder, ())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(server.certificate, server.key)
    return authority.certificate, tls


class Server:
    """Notes each connection's bytes up to a request's end, and answers as a test wants."""

    def __init__(self, *answers: bytes, end: bytes = b"\r\n\r\n", close: bool = False) -> None:
        self.connections, self.requests = 0, list[bytes]()
        self._answers, self._end, self._close = list(answers), end, close

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self._answers:
            try:
                self.requests.append(await reader.readuntil(self._end))
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            writer.write(self._answers.pop(0))
            await writer.drain()
            if self._close:
                break
        if not self._close:
            await reader.read()
        writer.close()


def against(certificates, serve: Serve, use: Callable[[Upstream], Awaitable[None]]) -> None:
    """`use` an upstream whose other side is `serve`."""

    async def both() -> None:
        server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=certificates[1])
        port = server.sockets[0].getsockname()[1]
        tls = ssl.create_default_context(cafile=str(certificates[0]))
        async with Upstream(Address(LOOPBACK, port), tls) as upstream:
            await use(upstream)
        server.close()

    asyncio.run(asyncio.wait_for(both(), 30))


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def taken(answer: Answer) -> bytes:
    try:
        return b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.aclose()


def test_a_connection_is_used_again_and_several_where_several_are_needed(certificates) -> None:
    server = Server(*[OK] * 9)

    async def use(upstream: Upstream) -> None:
        for _ in range(3):
            assert await taken(await upstream.send("GET", "/health", [])) == b"ok"
        assert server.connections == 1
        both = [await upstream.send("GET", "/health", []) for _ in range(2)]
        assert server.connections == 2
        for answer in both:
            assert await taken(answer) == b"ok"
        await taken(await upstream.send("GET", "/health", []))
        assert server.connections == 2

    against(certificates, server.serve, use)


def test_head_and_body_are_sent_as_they_are_said_to_be(certificates) -> None:
    server = Server(OK, end=b"END")

    async def use(upstream: Upstream) -> None:
        headers = [(b"flwr-key", b"a"), (b"flwr-key", b"b")]
        body = pieces(b"some", b"", b"END")
        answer = await upstream.send("POST", "/v1/fleet/x", headers, body, 7)
        assert (answer.status, dict(answer.headers)[b"x-one"]) == (200, b"1")
        assert await taken(answer) == b"ok"
        lines = server.requests[0].split(b"\r\n")
        assert lines[0] == b"POST /v1/fleet/x HTTP/1.1" and lines[1].startswith(b"host: 127.0.0.1:")
        assert lines[2:] == [*map(b": ".join, headers), b"content-length: 7", b"", b"someEND"]

    against(certificates, server.serve, use)


def test_a_body_of_unknown_length_goes_in_chunks(certificates) -> None:
    server = Server(OK, end=b"0\r\n\r\n")

    async def use(upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/x", [], pieces(b"some", b"", b"more"), None)
        assert await taken(answer) == b"ok"
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head and b"content-length" not in head
        assert body == b"4\r\nsome\r\n4\r\nmore\r\n0\r\n\r\n"

    against(certificates, server.serve, use)


@pytest.mark.parametrize("length", [3, 5])
def test_a_body_that_is_not_as_long_as_it_was_said_is_not_passed_on(certificates, length) -> None:
    server = Server(OK, end=b"END")

    async def use(upstream: Upstream) -> None:
        with pytest.raises(UpstreamError, match="than it was said to be"):
            await upstream.send("POST", "/x", [], pieces(b"four"), length)

    against(certificates, server.serve, use)


@pytest.mark.parametrize("value", [b"x\r\ny: z", b"x\ny", b"\0"])
def test_a_header_that_would_be_two_is_not_sent(certificates, value) -> None:
    server = Server(OK)

    async def use(upstream: Upstream) -> None:
        with pytest.raises(UpstreamError, match="header"):
            await upstream.send("GET", "/x", [(b"x", value)])
        assert not server.requests

    against(certificates, server.serve, use)


@pytest.mark.parametrize(
    "answer",
    [
        b"no answer at all\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"",
    ],
)
def test_what_is_no_whole_answer_is_an_error(certificates, answer) -> None:
    server = Server(answer, close=True)

    async def use(upstream: Upstream) -> None:
        with pytest.raises(UpstreamError):
            await taken(await upstream.send("GET", "/x", []))

    against(certificates, server.serve, use)


def test_a_connection_with_more_than_an_answer_is_not_used_again(certificates) -> None:
    server = Server(OK + OK, OK, OK)

    async def use(upstream: Upstream) -> None:
        for _ in range(2):
            with_more = await upstream.send("GET", "/x", [])
            await with_more.aclose()
        assert server.connections == 2

    against(certificates, server.serve, use)


def test_an_answer_that_is_early_ends_the_sending(certificates) -> None:
    refused = b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n"
    server, sent = Server(refused, OK), 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1000)
            await asyncio.sleep(0.001)

    async def use(upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/x", [], endless(), None)
        assert answer.status == 401 and await taken(answer) == b""
        before = sent
        assert await taken(await upstream.send("GET", "/x", [])) == b"ok"
        assert (server.connections, sent) == (2, before)

    against(certificates, server.serve, use)


def test_a_large_answer_is_not_taken_faster_than_it_is_wanted(certificates) -> None:
    size = 20_000_000
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size))

    async def use(upstream: Upstream) -> None:
        answer = await upstream.send("GET", "/x", [])
        await asyncio.sleep(0.5)
        assert answer._connection._waiting < 4 * upstream_connection.HIGH
        assert len(await taken(answer)) == size

    against(certificates, server.serve, use)


def test_nobody_there_and_nobody_who_answers(certificates, monkeypatch) -> None:
    monkeypatch.setattr(upstream_connection, "ANSWER", 0.2)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def use(upstream: Upstream) -> None:
        with pytest.raises(UpstreamError, match="does not answer"):
            await upstream.send("GET", "/x", [])

    against(certificates, silent, use)

    async def nobody() -> None:
        with pytest.raises(UpstreamError):
            await Upstream(Address(LOOPBACK, 1), ssl.create_default_context()).send("GET", "/", [])

    asyncio.run(nobody())
