"""What stands before the front's application: rate limits, and a line for whatever was refused.

A limit is answered with status 503, which a SuperNode of flwr 1.41 takes as "later": 429 would end
it. That a request is really its site's, the SuperLink checks; here the key that it names counts.
"""

import http
import socket
import ssl
from contextvars import ContextVar
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.coordinator.limits import Buckets, Refusals, network

KEY = b"flwr-public-key"  # FLEET_HTTP_PUBLIC_KEY_HEADER of flwr, which is not imported here
LONGEST_KEY = 1024  # bytes; a site's has about 300
# What a site is answered that asks whether it is known (`check_invited` in
# `deploy/flower/reach.py`).
ASKING = ("POST /v1/fleet/activate-node", 400)
PEER: ContextVar[str] = ContextVar("PEER", default="?")


class Gate:
    """An ASGI application in front of `app`: `addresses` and `sites` say who may ask how often."""

    def __init__(
        self, app: ASGIApp, addresses: Buckets, sites: Buckets, refusals: Refusals
    ) -> None:
        self._app = app
        self._addresses, self._sites = addresses, sites
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it through; note it if it is refused here or behind."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        address = (scope.get("client") or ("?",))[0]
        what = f"{scope['method']} {scope.get('raw_path', b'').decode('latin-1')}"
        limit = self._limit(address, scope)
        if limit:
            self._refusals.note(address, what, f"too many requests of this {limit}")
            answer = PlainTextResponse("too many requests", 503, {"retry-after": "1"})
            await answer(scope, receive, send)
            return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                if 400 <= status < 500 and (what, status) != ASKING:
                    self._refusals.note(address, what, _phrase(status))
            await send(message)

        await self._app(scope, receive, watched)

    def _limit(self, address: str, scope: Scope) -> str:
        """Whose limit is reached, or ""."""
        if not self._addresses.take(network(address)):
            return "address"
        key = next((value for name, value in scope["headers"] if name == KEY), b"")
        if key and not self._sites.take(key[:LONGEST_KEY].decode("latin-1")):
            return "site"
        return ""


def _phrase(status: int) -> str:
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


class Listener(socket.socket):
    """A listening socket: while a connection is being taken up, `PEER` is who it is from."""

    def accept(self) -> tuple[socket.socket, Any]:
        """As of any socket. asyncio makes a task of each connection right after this, and a task
        has the context in which it was made."""
        connection, address = super().accept()
        PEER.set(str(address[0]))
        return connection, address


def noting_handshakes(refusals: Refusals) -> type[ssl.SSLObject]:
    """A class of TLS connections that writes down which handshake failed, and why: plain text, an
    authority that the other side does not trust, no protocol in common."""

    class Noting(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                refusals.note(PEER.get(), "TLS handshake", error.reason or str(error))
                raise

    return Noting
