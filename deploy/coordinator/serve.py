"""`covey server start`: the processes of a running server, and who comes and goes.

SuperLink (loopback, TLS, database on disk), SuperExec (which starts the ServerApp) and front, each
restarted when it ends by itself; all ended with this process.
"""

import socket
import sys
import time
from contextlib import suppress

from rich.console import Console
from rich.markup import escape

from common.utils.errors import UserError
from deploy.coordinator.folder import ServerFolder, settle
from deploy.flower.control import Control, UnreachableError
from deploy.flower.reach import check_server
from deploy.flower.server_node import POLL, SUPEREXEC, SUPERLINK, ServerNode
from deploy.flower.site_node import QUICKLY
from deploy.identity.address import Address
from deploy.processes.starting import PATIENCE, await_up
from deploy.processes.supervisor import Supervisor, environment

FRONT = "front"
WATCH = 2.0  # seconds between two looks at the invited and the online sites


def serve(folder: ServerFolder, console: Console) -> None:
    """Run the server in `folder` until interrupted; every process is ended on the way out.

    `UserError` where it runs already, its address is taken, or something does not come up.
    """
    folder.settings()
    with folder.hold(), Supervisor(folder.logs, folder.flower / "empty") as supervisor:
        server = _Server(folder, supervisor, console)
        try:
            server.start()
            while True:
                server.watch()
                time.sleep(WATCH)
        except KeyboardInterrupt:
            console.print("stopping", highlight=False)


class _Server:
    """The processes, and what has been said of the sites."""

    def __init__(self, folder: ServerFolder, supervisor: Supervisor, console: Console) -> None:
        self._folder = folder
        self._supervisor = supervisor
        self._console = console
        self._settings = folder.settings()
        self._variables = environment(folder.flower / "home", poll=POLL)
        self._node = ServerNode(
            supervisor, folder.flower, folder.authority, folder.certify(), self._variables
        )
        self._online: set[str] = set()
        self._refused: dict[str, str] = {}
        self._ends = 0

    def start(self) -> None:
        """Start everything; return when the front answers."""
        listen = self._settings.listens
        _check_free(listen)
        deadline = time.monotonic() + PATIENCE
        self._say("starting the SuperLink")
        self._node.start()
        self._node.await_up(deadline)
        self._node.start_executor()
        self._register(self._node.control())  # before sites are let through and refused
        self._supervisor.start(FRONT, self._front_command(), self._variables, QUICKLY)
        await_up(self._supervisor, FRONT, lambda: self._front_answers(listen), deadline)
        self._folder.announce(self._node.address.port)
        invited = len(self._folder.invited())
        self._console.print(
            f"[bold]ready[/]: listening on {listen}, sites dial {self._settings.address}; "
            f"{invited} invited (Ctrl-C stops the server)",
            highlight=False,
        )

    def watch(self) -> None:
        """Let in who has been invited, and say who has come, who has gone, and what broke."""
        ends = sum(self._supervisor.ends(name) for name in (SUPERLINK, SUPEREXEC, FRONT))
        if ends > self._ends:
            self._ends = ends
            logs = escape(str(self._folder.logs))
            self._say(f"a process ended and is started again (logs: {logs})")
        with suppress(UnreachableError):  # the SuperLink is being restarted
            online = self._register(self._node.control(timeout=PATIENCE))
            for name in sorted(online - self._online):
                self._say(f"{name} joined ({len(online)} online)")
            for name in sorted(self._online - online):
                self._say(f"{name} left ({len(online)} online)")
            self._online = online

    def _register(self, control: Control) -> set[str]:
        """Let in exactly who is invited; the names of those online."""
        settled = settle(self._folder, control)
        for name, why in settled.refused.items():
            if name not in self._refused:
                self._say(f"[yellow]warning[/] {name} cannot be let in: {escape(why)}")
        self._refused = settled.refused
        return {node.name for node in settled.nodes if node.status == "online"}

    def _front_command(self) -> list[str]:
        options = {
            "listen": self._settings.listens,
            "superlink": self._node.address,
            "certificates": self._folder.certificates,
            "limit": self._settings.request_limit,
            "message-limit": self._settings.message_limit,
            "address-rate": self._settings.address_rate,
            "site-rate": self._settings.site_rate,
        }
        pairs = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        return [sys.executable, "-m", "deploy.coordinator.front", *pairs]

    def _front_answers(self, listen: Address) -> bool:
        try:
            check_server(listen.from_here(), self._folder.authority.certificate, proxies=False)
        except UserError:
            return False
        return True

    def _say(self, text: str) -> None:
        now = time.strftime("%H:%M:%S")
        self._console.print(f"[dim]{now}[/] {text}", highlight=False)


def _check_free(listen: Address) -> None:
    """`UserError` where another program listens there, or this machine has no such address."""
    try:
        listen.bind(socket.socket).close()
    except OSError as error:
        raise UserError(f"cannot listen on {listen}: {error.strerror}") from None
