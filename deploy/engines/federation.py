"""A federation of real processes on this machine: `covey run`.

A SuperLink on loopback with TLS and authentication of sites, its SuperExec, and for each site its
connection and its trainer, or Flower's own SuperNode and SuperExec. Certificates, keys and Flower's
own state are made on the spot in a private folder and deleted at the end. Whatever ends by itself
is started again; nothing outlives the federation.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from common.utils.errors import UserError
from common.utils.files import write_atomic
from deploy.flower.control import TIMEOUT, Control, UnreachableError
from deploy.flower.lines import TRAINER_ENDED, TRAINER_READY
from deploy.flower.server_node import SUPERLINK, ServerNode
from deploy.flower.site_node import SiteNode, has_to_be_stock
from deploy.identity.certificates import (
    Authority,
    SiteKey,
    check_site_name,
    issue_server,
    make_authority,
    make_site_key,
    private_folder,
)
from deploy.processes.starting import LOOK, PATIENCE, check_starting, failure
from deploy.processes.supervisor import Supervisor, environment, free_ports

CALL_PATIENCE = 20.0  # seconds for a SuperLink that is being restarted
# A SuperExec that asks for work twenty times a second costs 10% of a CPU core (more with TLS): the
# SuperExecs of all stock sites together may cost that much.
SHORTEST_POLL, LONGEST_POLL = 0.05, 1.0


@dataclass(frozen=True)
class SiteSpec:
    """One site of a local federation. `trainer_command` starts its trainer.

    `stock`: it is SuperNode and SuperExec, and answers with the ClientApp of whatever bundle comes,
    which reads `node_config` and may have a trainer or none.
    """

    name: str
    trainer_command: tuple[str, ...] = ()
    stock: bool = False
    node_config: Mapping[str, str | int] = field(default_factory=dict)


class LocalFederation:
    """All processes of a federation; a context manager, which ends them on the way out.

    `state` gets a private folder per federation, `logs` one file per process. `threads` limits the
    CPU threads of each process (0: no limit), `extra` are environment variables for all of them.
    """

    def __init__(
        self,
        state: Path,
        logs: Path,
        *,
        threads: int = 0,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        private_folder(state)
        self._state = Path(tempfile.mkdtemp(prefix="flower-", dir=state.absolute()))
        self._sockets = Path()  # until a site needs one
        self._address = self._state / "address"
        self._threads = threads
        self._extra = dict(extra or {})
        self._server: ServerNode | None = None
        self.supervisor = Supervisor(logs.absolute(), self._state / "empty")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def flwr_home(self) -> Path:
        """`FLWR_HOME=... flwr list covey` looks at this federation."""
        return self._state / "flwr"

    @property
    def address(self) -> str:
        """host:port of the SuperLink."""
        return str(self._started.address)

    def start(
        self,
        sites: Sequence[SiteSpec],
        progress: Callable[[str], None],
        bundle: Path | None = None,
    ) -> int:
        """Start everything and return when every site is online and its trainer ready.

        The Flower app in the folder `bundle` is started as soon as the SuperLink takes it, so that
        its ServerApp gets ready while the sites do; the run's id, 0 without one. `UserError` with
        the end of the log of what did not come up within `PATIENCE` seconds.
        """
        _check_names(sites)
        deadline = time.monotonic() + PATIENCE
        authority = make_authority(self._state / "certificates")
        certificate = issue_server(authority, self._state / "certificates", ())
        # The one run that there is is there when the SuperExec first looks.
        variables = self._variables(self.flwr_home, LONGEST_POLL)
        server = ServerNode(self.supervisor, self._state, authority, certificate, variables)
        self._server = server
        why = has_to_be_stock()
        if why:
            progress(why)
            sites = [replace(site, stock=True) for site in sites]
        progress(f"starting the SuperLink and {len(sites)} sites")
        server.start()
        keys = {site.name: make_site_key(self._state / "keys", site.name) for site in sites}
        nodes = {site.name: self._node(site, keys[site.name], authority) for site in sites}
        self._start_sites([node for node in nodes.values() if not node.stock])
        server.await_up(deadline)
        with self._reaching():  # before they dial, or they are refused and end
            for name, key in keys.items():
                self._control().register(key.public, name)
        write_atomic(self._address, self.address.encode())
        self._start_sites([node for node in nodes.values() if node.stock])
        server.start_executor()
        run_id = self.submit(bundle) if bundle is not None else 0
        with self._reaching():
            self._await_sites(nodes, deadline, progress)
        return run_id

    def submit(self, bundle: Path) -> int:
        """Start the Flower app in the folder `bundle`; the run's id."""
        with self._reaching():
            return self._control().submit(bundle)

    def status(self, run_id: int) -> tuple[str, str]:
        """(status, details) of a run, such as ("finished:failed", "No heartbeat received...").

        `UserError` where the SuperLink is gone for good.
        """
        with self._reaching():
            return self._control().status(run_id)

    def stop_run(self, run_id: int) -> None:
        """Stop a run; `UserError` where it has ended already."""
        with self._reaching():
            self._control().stop(run_id)

    def stop(self) -> None:
        """End every process and delete the private state; may be called again."""
        try:
            self.supervisor.stop()
        finally:
            shutil.rmtree(self._state, ignore_errors=True)
            if self._sockets != Path():
                shutil.rmtree(self._sockets, ignore_errors=True)

    @property
    def _started(self) -> ServerNode:
        if self._server is None:
            raise RuntimeError("the federation has not been started")
        return self._server

    def _control(self, patience: float = CALL_PATIENCE, timeout: float = TIMEOUT) -> Control:
        return self._started.control(patience, timeout)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except UnreachableError as error:
            raise failure(self.supervisor, SUPERLINK, f"does not answer ({error})") from error

    def _variables(self, flwr_home: Path, poll: float) -> dict[str, str]:
        return environment(flwr_home, self._threads, poll) | self._extra

    def _node(self, site: SiteSpec, key: SiteKey, authority: Authority) -> SiteNode:
        return SiteNode(
            self._address,
            authority.certificate,
            key.private,
            private_folder(self._state / "sites" / site.name),
            site.trainer_command,
            prefix=f"{site.name}-",
            stock=site.stock,
            pinned=False,
            node_config=site.node_config,
            sockets=self._sockets_of(site),
        )

    def _sockets_of(self, site: SiteSpec) -> Path:
        """A folder with a short path, as a socket's has to be, for a trainer that needs one."""
        if site.stock and site.trainer_command and self._sockets == Path():
            self._sockets = Path(tempfile.mkdtemp(prefix="covey-"))
        return self._sockets

    def _start_sites(self, nodes: Sequence[SiteNode]) -> None:
        poll = min(LONGEST_POLL, SHORTEST_POLL * len(nodes))
        ports = free_ports(len(nodes))  # drawn together, or two could be the same
        for node, port in zip(nodes, ports, strict=True):
            node.start(self.supervisor, self._variables(node.folder, poll), port)

    def _await_sites(
        self, nodes: Mapping[str, SiteNode], deadline: float, progress: Callable[[str], None]
    ) -> None:
        control = self._control()
        waiting = dict(nodes)
        while waiting:
            online = {name for name, status in control.sites().items() if status == "online"}
            for name in [name for name in waiting if name in online]:
                if self._trainer_ready(waiting[name]):
                    del waiting[name]
                    progress(f"{name} is online ({len(nodes) - len(waiting)} of {len(nodes)})")
            for name, node in waiting.items():
                if self._trainer_failed(node):
                    what = "ended while it was starting"
                    raise failure(self.supervisor, node.trainer_name, what)
                late = node.trainer_name if name in online else node.speaker
                check_starting(self.supervisor, late, deadline)
            time.sleep(LOOK)

    def _trainer_ready(self, node: SiteNode) -> bool:
        """A connection is online when its trainer is ready; a SuperNode does not know of it."""
        log = self.supervisor.log(node.trainer_name)
        return not (node.stock and node.trainer) or TRAINER_READY in log.read_text(errors="replace")

    def _trainer_failed(self, node: SiteNode) -> bool:
        if node.stock:
            return bool(node.trainer) and self.supervisor.ends(node.trainer_name) > 0
        return TRAINER_ENDED in self.supervisor.last_line(node.speaker)


def _check_names(sites: Sequence[SiteSpec]) -> None:
    names = [check_site_name(site.name) for site in sites]
    if not names:
        raise UserError("a federation needs at least one site")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two sites are called {name!r}")
