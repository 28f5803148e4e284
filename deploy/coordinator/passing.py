"""How the front passes a request on to the SuperLink and its answer back: as streams, neither of
them ever whole in memory, and neither endlessly slow.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Message, Send

from deploy.coordinator.upstream import Answer, Upstream
from deploy.coordinator.upstream_connection import UpstreamError

PULL, PUSH = "/v1/fleet/covey-pull", "/v1/fleet/covey-push"  # as in deploy/flower/whole.py
QUESTION = 4096  # bytes of a question that may be held
MOST_HELD = 10_000  # questions at once
PATIENCE = 60.0  # seconds without a byte, from or to a site
# Headers of one connection rather than of the message (RFC 9110, 7.6.1), and those with which a
# site could pretend to the SuperLink to be elsewhere.
DROPPED = frozenset(
    {
        "host", "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect", "forwarded",
        "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "server",
    }
)  # fmt: skip


class TooLargeError(Exception):
    """A request's body is larger than the front takes."""


class SlowError(Exception):
    """A request's body comes too slowly."""


async def forward(request: Request, path: str, limit: int) -> Response:
    """Pass a request on and its answer back, neither of them ever whole in memory. `path` is ours,
    so that nothing of the request's own can lead elsewhere."""

    async def answer() -> Response:
        if request.method != "POST":
            return _back(await _send(request, path, None, None))
        length = _declared(request, limit)
        return _back(await _send(request, path, limited(request, limit), length))

    return await _or_why(answer(), limit)


async def _or_why(answer: Awaitable[Response], limit: int) -> Response:
    """The answer; or what is wrong with the request, or with the SuperLink."""
    try:
        return await answer
    except TooLargeError:
        return PlainTextResponse(f"a request may have {limit} bytes", 413)
    except SlowError:
        return PlainTextResponse("the request comes too slowly", 408, {"connection": "close"})
    except ClientDisconnect:
        return Response(status_code=400)
    except UpstreamError:
        # What a site tries again: the SuperLink is being restarted.
        return _later("the SuperLink does not answer")
    except asyncio.CancelledError:
        return _later("the server ends")


class Held:
    """Passes questions on that the SuperLink may hold, `most` at once; whoever has gone has none
    held."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._number = 0

    async def forward(self, request: Request, path: str, limit: int) -> Response:
        """As `forward`, for a small body."""
        return await _or_why(self._answer(request, path, limit), limit)

    async def _answer(self, request: Request, path: str, limit: int) -> Response:
        body = b"".join([chunk async for chunk in limited(request, limit)])
        if self._number >= self._most:
            return _later("too many questions are held")
        self._number += 1
        answered = asyncio.ensure_future(_send(request, path, _once(body), len(body)))
        gone = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait({answered, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                raise ClientDisconnect
            return _back(answered.result())
        finally:
            self._number -= 1
            gone.cancel()
            answered.cancel()


async def _send(
    request: Request, path: str, body: AsyncIterator[bytes] | None, length: int | None
) -> Answer:
    superlink: Upstream = request.state.superlink
    headers = [(k, v) for k, v in request.headers.raw if _kept(k) and k != b"content-length"]
    return await superlink.send(request.method, path, headers, body, length)


class Patient(StreamingResponse):
    """A stream that ends where nobody takes it."""

    async def stream_response(self, send: Send) -> None:
        """As Starlette's."""

        async def patiently(message: Message) -> None:
            async with asyncio.timeout(PATIENCE):
                await send(message)

        await super().stream_response(patiently)


def _back(answer: Answer) -> Response:
    response = Patient(_chunks(answer), answer.status)
    response.raw_headers = [(k, v) for k, v in answer.headers if _kept(k)]
    return response


def _kept(name: bytes) -> bool:
    return name.decode("latin-1").lower() not in DROPPED


def _declared(request: Request, limit: int) -> int | None:
    """Bytes that a body is said to have, if it is said."""
    declared = request.headers.get("content-length")
    if declared is None:
        return None
    if not (declared.isascii() and declared.isdecimal()) or int(declared) > limit:
        raise TooLargeError
    return int(declared)


async def limited(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body, chunk by chunk; its length may not have been declared."""
    _declared(request, limit)
    seen = 0
    chunks = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise SlowError from None
        seen += len(chunk)
        if seen > limit:
            raise TooLargeError
        yield chunk


async def _chunks(answer: Answer) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.chunks():
            yield chunk
    finally:
        await answer.aclose()


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _later(why: str) -> Response:
    """What a site tries again."""
    return PlainTextResponse(why, 503, {"retry-after": "1"})
