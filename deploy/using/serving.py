"""`covey gallery --serve`: the page from this machine to itself, so that names are kept at once.

It listens on loopback alone. The address has a secret in it, without which nothing is shown or
taken: other users of the machine, and pages of the web that are open beside it, do not know it.
"""

import hmac
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from common.learned.facts import Facts
from common.utils.errors import UserError
from deploy.using.gallery import Shown
from deploy.using.naming import LARGEST, read_said, say

HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds for a request to come whole


class GalleryServer(ThreadingHTTPServer):
    """Shows one gallery and takes its names until it is shut down. `port` 0: any that is free."""

    daemon_threads = True

    def __init__(self, shown: Shown, facts: Facts, port: int = 0) -> None:
        self.shown = shown
        self.facts = facts
        self.secret = secrets.token_urlsafe(24)
        super().__init__((HOST, port), _Handler)

    @property
    def own(self) -> str:
        """What a browser that means this server calls it."""
        return f"{HOST}:{self.server_address[1]}"

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.own}/{self.secret}/"

    def keep(self, text: str) -> str:
        """Write names into the model's file; what is to be said of it."""
        self.facts = say(self.shown.model, read_said(text)).facts
        return f"Kept in {self.shown.model}. covey assign uses the names from now on."


class _Handler(BaseHTTPRequestHandler):
    server: GalleryServer
    timeout = PATIENCE

    def do_GET(self) -> None:
        """The page, at its secret address."""
        if self._is_meant("/"):
            page = self.server.shown.page(self.server.facts, save="names")
            self._answer(HTTPStatus.OK, page, "text/html")

    def do_POST(self) -> None:
        """Names, from the page alone."""
        if not self._is_meant("/names"):
            return
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Origin") != f"http://{self.server.own}":
            self._answer(HTTPStatus.FORBIDDEN, "not from this page")
        elif not length.isdecimal() or int(length) > LARGEST:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long")
        else:
            self._keep(self.rfile.read(int(length)))

    def _keep(self, data: bytes) -> None:
        try:
            self._answer(HTTPStatus.OK, self.server.keep(data.decode()))
        except UnicodeDecodeError:
            self._answer(HTTPStatus.BAD_REQUEST, "not UTF-8")
        except UserError as error:
            self._answer(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"not kept: {error.strerror}")

    def _is_meant(self, below: str) -> bool:
        """Whether the request has the secret and was sent to this server by its own name, and not
        by a name of somebody else's that leads here; else it is answered."""
        path = f"/{self.server.secret}{below}"
        known = hmac.compare_digest(self.path.encode(), path.encode())
        if known and self.headers.get("Host") == self.server.own:
            return True
        self._answer(HTTPStatus.NOT_FOUND, "nothing here")
        return False

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        data = text.encode(errors="backslashreplace")
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Connection": "close",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the secret would be in it."""


def serve(shown: Shown, model_facts: Facts, port: int, told: Callable[[str], None]) -> None:
    """Show it until Ctrl-C; `told` gets the address. `UserError` where the port is taken."""
    try:
        server = GalleryServer(shown, model_facts, port)
    except OSError as error:
        raise UserError(f"port {port}: {error.strerror}") from None
    with server:
        told(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
