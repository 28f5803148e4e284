"""A server's two Flower programs, wherever the server is: SuperLink and SuperExec.

The SuperLink listens on loopback alone, with TLS and a database on disk. Its SuperExec, which
starts the ServerApps, is a process of its own: one that the SuperLink started itself would end with
it, and the run too.
"""

from collections.abc import Mapping
from pathlib import Path

from deploy.flower import commands as flower
from deploy.flower.control import TIMEOUT, Control, UnreachableError
from deploy.flower.site_node import QUICKLY
from deploy.identity.address import Address
from deploy.identity.certificates import Authority, ServerCertificate, private_folder, write_secret
from deploy.processes.starting import await_up
from deploy.processes.supervisor import LOOPBACK, Supervisor, free_port

SUPERLINK, SUPEREXEC = "superlink", "superexec"
POLL = 0.25  # seconds between two looks of the SuperExec for work: it starts one thing in a run
FIRST_ANSWER = 2.0  # seconds: what holds the port may be a stranger that never answers


class ServerNode:
    """Both programs under `supervisor`, with Flower's own state in the private `folder`:
    `superlink.db`, `superexec.secret`, and `flwr/`, which `variables` name as `FLWR_HOME`."""

    def __init__(
        self,
        supervisor: Supervisor,
        folder: Path,
        authority: Authority,
        certificate: ServerCertificate,
        variables: Mapping[str, str],
    ) -> None:
        self._supervisor = supervisor
        self._folder = folder
        self._authority, self._certificate = authority, certificate
        self._variables = variables
        self._secret = write_secret(folder / "superexec.secret")
        self._port = 0
        self._settled = False

    @property
    def address(self) -> Address:
        """Where the SuperLink listens; settled when it has come up."""
        return Address(LOOPBACK, self._port)

    def control(self, patience: float = 0.0, timeout: float = TIMEOUT) -> Control:
        """The SuperLink's Control API."""
        return Control(LOOPBACK, self._port, self._authority.certificate, patience, timeout=timeout)

    def start(self) -> None:
        """Start the SuperLink, and again whenever it ends."""
        self._supervisor.start(SUPERLINK, self._superlink, self._variables, QUICKLY)

    def await_up(self, deadline: float) -> None:
        """Return when the SuperLink answers; the `flwr` command finds it from then on."""
        await_up(self._supervisor, SUPERLINK, self._answers, deadline)
        self._settled = True
        home = private_folder(Path(self._variables["FLWR_HOME"]))
        flower.write_connection(home, str(self.address), self._authority)

    def start_executor(self) -> None:
        """Start the SuperExec, and again whenever it ends."""
        command = flower.superexec_command(
            str(self.address), self._authority.certificate, self._secret
        )
        self._supervisor.start(SUPEREXEC, command, self._variables, QUICKLY)

    def _superlink(self) -> list[str]:
        if not self._settled:  # another process may have taken the last port by now
            self._port = free_port()
        return flower.superlink_command(
            LOOPBACK,
            self._port,
            self._authority,
            self._certificate,
            secret=self._secret,
            database=self._folder / "superlink.db",
        )

    def _answers(self) -> bool:
        try:
            self.control(timeout=FIRST_ANSWER).sites()
        except UnreachableError:
            return False
        return True
