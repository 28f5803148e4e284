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
from deploy.engines.federation import FIRST_ANSWER, PATIENCE, SERVER_POLL
from deploy.flower import commands as flower
from deploy.flower.control import Control, UnreachableError
from deploy.flower.reach import check_server
from deploy.flower.site_node import ATTEMPTS, QUICKLY
from deploy.identity.address import Address
from deploy.identity.certificates import private_folder, write_secret
from deploy.processes.supervisor import LOOPBACK, Supervisor, environment, free_port

SUPERLINK, SUPEREXEC, FRONT = "superlink", "superexec", "front"
LOOK = 0.2  # seconds between two looks while starting
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
        self._port = 0
        self._settled = False
        self._online: set[str] = set()
        self._refused: dict[str, str] = {}
        self._ends = 0

    def start(self) -> None:
        """Start everything; return when the front answers."""
        listen = self._settings.listens
        _check_free(listen)
        certificate = self._folder.certify()
        authority = self._folder.authority
        secret = write_secret(self._folder.flower / "superexec.secret")
        home = private_folder(self._folder.flower / "home")
        variables = environment(home, poll=SERVER_POLL)

        def superlink() -> list[str]:
            if not self._settled:  # another process may have taken the last port by now
                self._port = free_port()
            return flower.superlink_command(
                LOOPBACK,
                self._port,
                authority,
                certificate,
                secret=secret,
                database=self._folder.flower / "superlink.db",
            )

        deadline = time.monotonic() + PATIENCE
        self._say("starting the SuperLink")
        self._supervisor.start(SUPERLINK, superlink, variables, QUICKLY)
        self._await_superlink(deadline)
        address = Address(LOOPBACK, self._port)
        flower.write_connection(home, str(address), authority)
        executor = flower.superexec_command(str(address), authority.certificate, secret)
        self._supervisor.start(SUPEREXEC, executor, variables, QUICKLY)
        self._register(self._control(FIRST_ANSWER))  # before sites are let through and refused
        self._supervisor.start(FRONT, self._front_command(address), variables, QUICKLY)
        self._await_front(listen, deadline)
        self._folder.announce(self._port)
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
            online = self._register(self._control())
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

    def _control(self, patience: float = 0.0) -> Control:
        return Control(
            LOOPBACK,
            self._port,
            self._folder.authority.certificate,
            patience,
            timeout=FIRST_ANSWER if not self._settled else PATIENCE,
        )

    def _front_command(self, superlink: Address) -> list[str]:
        options = {
            "listen": self._settings.listens,
            "superlink": superlink,
            "certificates": self._folder.certificates,
            "limit": self._settings.request_limit,
            "message-limit": self._settings.message_limit,
            "address-rate": self._settings.address_rate,
            "site-rate": self._settings.site_rate,
        }
        pairs = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        return [sys.executable, "-m", "deploy.coordinator.front", *pairs]

    def _await_superlink(self, deadline: float) -> None:
        while True:
            try:
                self._control().sites()
            except UnreachableError:
                self._check(SUPERLINK, deadline)
                time.sleep(LOOK)
            else:
                self._settled = True
                return

    def _await_front(self, listen: Address, deadline: float) -> None:
        while True:
            try:
                check_server(listen.from_here(), self._folder.authority.certificate, proxies=False)
            except UserError:
                self._check(FRONT, deadline)
                time.sleep(LOOK)
            else:
                return

    def _check(self, name: str, deadline: float) -> None:
        late = time.monotonic() > deadline
        if late or self._supervisor.ends(name) >= ATTEMPTS:
            what = f"did not come up within {PATIENCE:.0f} s" if late else "ended while starting"
            last = self._supervisor.last_line(name) or "no output"
            raise UserError(f"{name} {what}: {last} (log: {self._supervisor.log(name)})")

    def _say(self, text: str) -> None:
        now = time.strftime("%H:%M:%S")
        self._console.print(f"[dim]{now}[/] {text}", highlight=False)


def _check_free(listen: Address) -> None:
    """`UserError` where another program listens there, or this machine has no such address."""
    try:
        listen.bind(socket.socket).close()
    except OSError as error:
        raise UserError(f"cannot listen on {listen}: {error.strerror}") from None
