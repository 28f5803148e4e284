"""A site's processes, wherever the site is.

Two: the connection (`deploy/flower/connection.py`) and, as its child, the trainer. A site that
takes any bundle, whose code has to run somewhere, or whose flwr is another one than the connection
knows, has Flower's two in its place, SuperNode and SuperExec, and beside them the trainer on a
named socket. The SuperExec is a process of its own: one that the SuperNode started itself would not
be started again. The SuperNode hands its work only to the SuperExec that knows a secret of the
site's private folder, so that no other user of the machine can take it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.utils.logs import begin_anew
from deploy.flower import commands as flower
from deploy.flower import inside
from deploy.flower.lines import JOINED, SUPERNODE_JOINED
from deploy.identity.certificates import write_secret
from deploy.processes.supervisor import LOOPBACK, Restart, Supervisor, free_port

QUICKLY = Restart(first=0.5, longest=20.0)
# A SuperNode that was killed is refused, and ends at once, until the SuperLink has missed two of
# its heartbeats: 60 s.
PATIENTLY = Restart(first=4.0, longest=20.0)
TRAINER_SOCKET = "trainer-socket"  # the key that the ClientApp looks for in its node config
CONNECTION, TRAINER, SUPERNODE, SUPEREXEC = "connection", "trainer", "supernode", "superexec"


@dataclass(frozen=True)
class SiteNode:
    """Whom a site dials and who it is: the file `address` holds host:port, `certificate` is the
    authority's, `key` the site's own; `folder` is private and exists. `trainer` is the command that
    starts its trainer. `prefix` stands before the names of its processes and logs.

    `stock`: Flower's own processes, which run whatever bundle comes; `pinned`: or only the one that
    the Covey installed here would write, and without a `trainer` its ClientApp has none.
    `node_config` is what their ClientApp reads; `sockets` a short path that is private.
    """

    address: Path
    certificate: Path
    key: Path
    folder: Path
    trainer: Sequence[str] = ()
    prefix: str = ""
    stock: bool = False
    pinned: bool = True
    node_config: Mapping[str, str | int] = field(default_factory=dict)
    sockets: Path = Path()

    @property
    def speaker(self) -> str:
        """The process that talks to the server, whose log says whether it has been let in."""
        return f"{self.prefix}{SUPERNODE if self.stock else CONNECTION}"

    @property
    def joined(self) -> str:
        """What that log says then."""
        return SUPERNODE_JOINED if self.stock else JOINED

    @property
    def trainer_name(self) -> str:
        """The trainer's process and log."""
        return f"{self.prefix}{TRAINER}"

    @property
    def names(self) -> tuple[str, ...]:
        """The processes that are supervised."""
        if not self.stock:
            return (self.speaker,)
        trainer = (self.trainer_name,) if self.trainer else ()
        return (*trainer, self.speaker, f"{self.prefix}{SUPEREXEC}")

    def start(self, supervisor: Supervisor, variables: Mapping[str, str], port: int = 0) -> None:
        """Start them with the environment `variables`, and again whenever they end. `port` is of
        loopback, for the stock ones alone (0: any). The file `address` may come later: until then
        a connection waits, and its trainer gets ready; stock processes need it."""
        log = supervisor.log(self.trainer_name)
        if not self.stock:
            begin_anew(log)
            command = flower.connection_command(
                self.address,
                self.certificate,
                self.key,
                folder=self.folder,
                trainer=self.trainer,
                trainer_log=log,
            )
            supervisor.start(self.speaker, command, variables, QUICKLY)
            return
        config = dict(self.node_config)
        if self.trainer:
            socket = self.sockets / f"{self.prefix}{TRAINER}.sock"
            config[TRAINER_SOCKET] = str(socket)
            command = [*self.trainer, "--socket", str(socket)]
            supervisor.start(self.trainer_name, command, variables, QUICKLY)
        self._start_stock(supervisor, variables, config, port or free_port())

    def _start_stock(
        self,
        supervisor: Supervisor,
        variables: Mapping[str, str],
        config: Mapping[str, str | int],
        port: int,
    ) -> None:
        secret = write_secret(self.folder / "superexec.secret")
        node = flower.supernode_command(
            self.address.read_text(encoding="utf-8"),
            self.certificate,
            self.key,
            port=port,
            node_config=flower.write_node_config(self.folder / "node.toml", config),
            secret=secret,
            pinned=self.pinned,
        )
        executor = flower.superexec_command(f"{LOOPBACK}:{port}", None, secret)
        supervisor.start(self.speaker, node, variables, PATIENTLY)
        supervisor.start(f"{self.prefix}{SUPEREXEC}", executor, variables, QUICKLY)


def has_to_be_stock() -> str:
    """Why a site of this flwr has to be SuperNode and SuperExec, in a line; "" where it has not."""
    lacking = inside.missing(inside.ASKING) + inside.missing(inside.SITE)
    if not lacking:
        return ""
    return f"this flwr has no {lacking[0]}: the site runs with Flower's own SuperNode and SuperExec"
