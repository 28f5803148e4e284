"""The front: the only part of a server that sites reach.

Flower serves sites, coordinator and apps on one port, and asks only the sites who they are. The
SuperLink therefore listens on loopback, and this passes `/v1/fleet/*` and `/health` on to it, over
TLS at both ends, as streams in both directions. Everything else is answered with 404 and never
reaches the SuperLink. Requests are limited in size and number, and what is refused, here or by the
SuperLink, is a line of its log with the address that it came from. It decides nothing else: who a
site is, the SuperLink checks.
"""

import contextlib
import importlib.metadata
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, TypedDict

import httpx
import typer
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from deploy.coordinator.gate import Gate, Listener, noting_handshakes
from deploy.coordinator.limits import Buckets, Refusals
from deploy.flower import bundle
from deploy.flower.bundle import VERSIONS
from deploy.identity.address import Address

CALL = re.compile(r"[a-z]+(?:-[a-z]+)*")
MEBIBYTE = 2**20
ANSWER = 120.0  # seconds: a SuperLink that stores a large model answers late
# Shorter than the 5 s after which the SuperLink closes an idle connection: none is used that has
# just been closed. Towards the sites it is the other way round.
UPSTREAM_IDLE, SITE_IDLE = 2.0, 30
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


class _State(TypedDict):
    superlink: httpx.AsyncClient


def build_front(superlink: Address, authority: Path, limit: int) -> Starlette:
    """The front of the SuperLink at `superlink`, whose certificate `authority` signed, for
    requests of up to `limit` bytes."""
    versions = f"covey={bundle.version()} flwr={importlib.metadata.version('flwr')}"

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[_State]:
        async with httpx.AsyncClient(
            base_url=f"https://{superlink}",
            verify=ssl.create_default_context(cafile=str(authority)),
            timeout=httpx.Timeout(ANSWER, connect=5.0),
            limits=httpx.Limits(keepalive_expiry=UPSTREAM_IDLE),
            trust_env=False,
        ) as client:
            yield {"superlink": client}

    async def fleet(request: Request) -> Response:
        call = request.path_params["call"]
        if not CALL.fullmatch(call):
            return _nothing()
        return await _forward(request, f"/v1/fleet/{call}", limit)

    async def health(request: Request) -> Response:
        answer = await _forward(request, "/health", limit)
        answer.headers[VERSIONS] = versions
        return answer

    async def nothing(_request: Request, _error: Exception) -> Response:
        return _nothing()

    app = Starlette(
        routes=[
            Route("/v1/fleet/{call}", fleet, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
        ],
        exception_handlers={404: nothing, 405: nothing},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


async def _forward(request: Request, path: str, limit: int) -> Response:
    """Pass a request on and its answer back, neither of them ever whole in memory. `path` is ours,
    so that nothing of the request's own can lead elsewhere."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit:
        return _too_large(limit)
    client: httpx.AsyncClient = request.state.superlink
    passed = client.build_request(
        request.method,
        path,
        headers=[(k, v) for k, v in request.headers.items() if k not in DROPPED],
        content=_limited(request, limit) if request.method == "POST" else None,
    )
    try:
        answer = await client.send(passed, stream=True)
    except TooLargeError:
        return _too_large(limit)
    except ClientDisconnect:
        return Response(status_code=400)
    except httpx.TransportError:
        # What a SuperNode tries again: the SuperLink is being restarted.
        return PlainTextResponse("the SuperLink does not answer", 503)
    response = StreamingResponse(_chunks(answer), answer.status_code)
    response.raw_headers = [(k.lower(), v) for k, v in answer.headers.raw if _kept(k)]
    return response


def _kept(name: bytes) -> bool:
    return name.decode("latin-1").lower() not in DROPPED


async def _limited(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body, chunk by chunk; its length may not have been declared."""
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limit:
            raise TooLargeError
        yield chunk


async def _chunks(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


def _nothing() -> Response:
    return PlainTextResponse("not found", 404)


def _too_large(limit: int) -> Response:
    return PlainTextResponse(f"a request may have {limit} bytes", 413)


def main(
    listen_at: Annotated[str, typer.Option("--listen", help="HOST:PORT for the sites")],
    superlink: Annotated[str, typer.Option(help="HOST:PORT of the SuperLink")],
    certificates: Annotated[Path, typer.Option(help="folder of ca.crt, server.crt, server.key")],
    limit: Annotated[int, typer.Option(help="largest request in MiB")] = 64,
    address_rate: Annotated[float, typer.Option(help="requests a second of one address")] = 200,
    site_rate: Annotated[float, typer.Option(help="requests a second of one site")] = 50,
) -> None:
    """Serve until ended."""
    refusals = Refusals(lambda line: print(line, flush=True))
    app = build_front(Address.parse(superlink), certificates / "ca.crt", limit * MEBIBYTE)
    config = uvicorn.Config(
        Gate(app, Buckets(address_rate), Buckets(site_rate), refusals),
        ssl_certfile=certificates / "server.crt",
        ssl_keyfile=str(certificates / "server.key"),
        # uvloop does not keep a connection's context (`deploy/coordinator/gate.py`)
        loop="asyncio",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
        timeout_keep_alive=SITE_IDLE,
        timeout_graceful_shutdown=2,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.sslobject_class = noting_handshakes(refusals)
    here = Address.parse(listen_at)
    uvicorn.Server(config).run(sockets=[here.bind(Listener)])


if __name__ == "__main__":
    typer.run(main)
