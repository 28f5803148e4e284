"""The front: the only part of a server that sites reach.

Flower serves sites, coordinator and apps on one port, and asks only the sites who they are. The
SuperLink therefore listens on loopback, and this passes `/v1/fleet/*` and `/health` on to it, over
TLS at both ends, as streams in both directions (`deploy/coordinator/passing.py`). Everything else
is answered with 404 and never reaches the SuperLink. Requests are limited in size and number, and
what is refused, here or by the SuperLink, is a line of its log with the address that it came from.
It decides nothing else: who a site is, the SuperLink checks.
"""

import asyncio
import contextlib
import importlib.metadata
import logging
import re
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, TypedDict, cast

import typer
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.utils.logs import set_up
from deploy.coordinator.gate import Gate, Listener, noting_handshakes
from deploy.coordinator.limits import Buckets, Refusals
from deploy.coordinator.passing import MOST_HELD, PULL, PUSH, QUESTION, Held, forward
from deploy.coordinator.upstream import Upstream
from deploy.coordinator.upstream_connection import UNSENT
from deploy.flower import bundle
from deploy.flower.bundle import VERSIONS
from deploy.identity.address import Address
from deploy.processes.connections import take_many_connections

LOG = logging.getLogger("deploy.coordinator.front")
CALL = re.compile(r"[a-z]+(?:-[a-z]+)*")
MEBIBYTE = 2**20
SITE_IDLE = 30  # seconds for which a site's connection is kept


class Frugal(HttpToolsProtocol):
    """A site's connection, of whose answer little is in memory: by itself 512 KiB."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As of any protocol."""
        super().connection_made(cast(asyncio.Transport, transport))
        cast(asyncio.Transport, transport).set_write_buffer_limits(UNSENT)


class _State(TypedDict):
    superlink: Upstream


def build_front(
    superlink: Address, authority: Path, limit: int, message_limit: int | None = None
) -> Starlette:
    """The front of the SuperLink at `superlink`, whose certificate `authority` signed, for
    requests of up to `limit` bytes, and whole messages of up to `message_limit` (None: as
    much)."""
    largest = limit if message_limit is None else message_limit
    held = Held(MOST_HELD)
    versions = f"covey={bundle.version()} flwr={importlib.metadata.version('flwr')}"

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[_State]:
        tls = ssl.create_default_context(cafile=str(authority))
        async with Upstream(superlink, tls) as client:
            yield {"superlink": client}

    async def fleet(request: Request) -> Response:
        call = request.path_params["call"]
        if not CALL.fullmatch(call):
            return _nothing()
        path = f"/v1/fleet/{call}"
        if path == PULL:
            return await held.forward(request, path, QUESTION)
        return await forward(request, path, largest if path == PUSH else limit)

    async def health(request: Request) -> Response:
        answer = await forward(request, "/health", limit)
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


def _nothing() -> Response:
    return PlainTextResponse("not found", 404)


def main(
    listen_at: Annotated[str, typer.Option("--listen", help="HOST:PORT for the sites")],
    superlink: Annotated[str, typer.Option(help="HOST:PORT of the SuperLink")],
    certificates: Annotated[Path, typer.Option(help="folder of ca.crt, server.crt, server.key")],
    limit: Annotated[int, typer.Option(help="largest request in MiB")] = 64,
    message_limit: Annotated[int, typer.Option(help="largest whole message in MiB")] = 2048,
    address_rate: Annotated[float, typer.Option(help="requests a second of one address")] = 200,
    site_rate: Annotated[float, typer.Option(help="requests a second of one site")] = 50,
) -> None:
    """Serve until ended."""
    set_up(sys.stderr)
    refusals = Refusals(lambda line: LOG.warning("%s", line))
    take_many_connections()
    app = build_front(
        Address.parse(superlink),
        certificates / "ca.crt",
        limit * MEBIBYTE,
        message_limit * MEBIBYTE,
    )
    config = uvicorn.Config(
        Gate(app, Buckets(address_rate), Buckets(site_rate), refusals),
        ssl_certfile=certificates / "server.crt",
        ssl_keyfile=str(certificates / "server.key"),
        # uvloop does not keep a connection's context (`deploy/coordinator/gate.py`)
        loop="asyncio",
        http=Frugal,
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
