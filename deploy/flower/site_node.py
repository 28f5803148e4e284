"""A site's two Flower programs, wherever the site is: SuperNode and SuperExec.

The SuperExec is a process of its own: one that the SuperNode started itself would not be started
again. The SuperNode hands its work only to the SuperExec that knows a secret of the site's private
folder, so that no other user of the machine can take it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.flower import commands as flower
from deploy.identity.certificates import write_secret
from deploy.processes.supervisor import LOOPBACK, Restart, Supervisor, free_port

ATTEMPTS = 3  # quick ends of a Flower program before starting is given up
QUICKLY = Restart(first=0.5, longest=20.0)
# A SuperNode that was killed is refused, and ends at once, until the SuperLink has missed two of
# its heartbeats: 60 s.
PATIENTLY = Restart(first=4.0, longest=20.0)
TRAINER_SOCKET = "trainer-socket"  # the key that the ClientApp looks for in its node config


@dataclass(frozen=True)
class SiteNode:
    """Whom a site dials and who it is: `superlink` (host:port), the authority's `certificate`, the
    site's private `key`; `folder` is private and exists; `pinned`: it runs no bundle but the one
    that the Covey installed here would write."""

    superlink: str
    certificate: Path
    key: Path
    folder: Path
    pinned: bool = False

    def start(
        self,
        supervisor: Supervisor,
        names: tuple[str, str],
        node_config: Mapping[str, str | int],
        variables: Mapping[str, str],
        port: int = 0,
    ) -> None:
        """Start both, as `names` = (SuperNode, SuperExec) with the environment `variables`, and
        again whenever they end. `port` is of loopback, for the two alone (0: any)."""
        port = port or free_port()
        secret = write_secret(self.folder / "superexec.secret")
        node = flower.supernode_command(
            self.superlink,
            self.certificate,
            self.key,
            port=port,
            node_config=flower.write_node_config(self.folder / "node.toml", node_config),
            secret=secret,
            pinned=self.pinned,
        )
        executor = flower.superexec_command(f"{LOOPBACK}:{port}", None, secret)
        supervisor.start(names[0], node, variables, PATIENTLY)
        supervisor.start(names[1], executor, variables, QUICKLY)
