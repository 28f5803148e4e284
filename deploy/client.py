"""`covey client`: a site joins a federation with one invitation, and sees what left the machine.

Resident trainer, SuperNode and SuperExec, each restarted when it ends by itself; all ended with
this process. The SuperNode hands its work only to the SuperExec that knows a secret of this folder,
so that no other user of the machine can take it.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from common.data import DATASETS, ImageData, load
from common.errors import UserError
from common.files import write_atomic
from common.lock import is_locked, locked
from deploy import flower
from deploy.address import Address
from deploy.certificates import private_folder, write_private, write_secret
from deploy.federation import ATTEMPTS, PATIENTLY, QUICKLY, SERVER_POLL, TRAINER_SOCKET
from deploy.invitation import Invitation
from deploy.processes import LOOPBACK, Supervisor, environment, free_port
from deploy.progress import size
from deploy.reach import check_invited, check_server

TRAINER, SUPERNODE, SUPEREXEC = "trainer", "supernode", "superexec"
PATIENCE = 120.0  # seconds: a killed SuperNode is refused for up to 60
LOADING = 600.0  # seconds for torch and the images: a folder of photographs is decoded
LOOK = 0.2
WATCH = 1.0
NAMED = 5  # unreadable files that are named on the screen
JOINED = "SuperNode ID:"  # what a SuperNode logs once the server has let it in


@dataclass(frozen=True)
class SiteFolder:
    """Where a site keeps what is its own: the log of what left, and for each run its state and
    its cluster assignments."""

    path: Path

    @property
    def ledger(self) -> Path:
        """The log of what left the machine."""
        return self.path / "left.jsonl"

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs."""
        return self.path / "logs"

    @property
    def private(self) -> Path:
        """The folder of the key and of what belongs to Flower."""
        return self.path / "private"

    def claim(self, invitation: Invitation) -> None:
        """Make the folder, or take it up again; `UserError` where it is another site's."""
        private_folder(self.path)
        private_folder(self.private)
        owner = self.private / "site"
        if owner.exists() and owner.read_text(encoding="utf-8") != invitation.site:
            raise UserError(
                f"{self.path} belongs to the site {owner.read_text(encoding='utf-8')!r}: "
                "choose another with --folder"
            )
        write_atomic(owner, invitation.site.encode())
        write_private(self.private / "key", invitation.private_key.encode())
        write_private(self.private / "ca.crt", invitation.authority.encode())

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one process that has joined from this folder; `UserError` where there is one."""
        lock = self.private / "lock"
        if is_locked(lock):
            raise UserError(f"the site in {self.path} has joined already")
        with locked(lock):
            yield


@dataclass(frozen=True)
class Data:
    """What a site trains on: a folder of images, an .npz or a data set's name, and the side in
    pixels that the images are scaled to (0: as they are)."""

    spec: str
    side: int = 0


def join(
    invitation_file: Path, data: Data, device: str, folder: Path | None, console: Console
) -> None:
    """Check data and connection, join, and stay until interrupted; every process is ended on the
    way out. `UserError` where something does not fit, before anything has left the machine."""
    invitation = Invitation.read(invitation_file)
    console.print(f"site: {invitation.site}", highlight=False, markup=False)
    data = Data(_absolute(data.spec), data.side)
    found = describe(load(data.spec, side=data.side))
    console.print(f"data: {found}", highlight=False, markup=False, soft_wrap=True)
    home = SiteFolder((folder or Path(f"covey-site-{invitation.site}")).absolute())
    home.claim(invitation)
    with home.hold():
        check_server(Address.parse(invitation.address), home.private / "ca.crt")
        check_invited(invitation)
        console.print(
            f"connection: {invitation.address} answers, is the federation's, and knows this site",
            highlight=False,
        )
        with (
            tempfile.TemporaryDirectory(prefix="covey-") as sockets,
            Supervisor(home.logs, home.private / "empty") as supervisor,
        ):
            site = _Site(home, invitation, supervisor, console)
            try:
                site.start(data, device, Path(sockets) / "trainer.sock")
                while True:
                    site.watch()
                    time.sleep(WATCH)
            except KeyboardInterrupt:
                console.print("stopping", highlight=False)


class _Site:
    """The processes, and how far the log of what left has been shown."""

    def __init__(
        self, home: SiteFolder, invitation: Invitation, supervisor: Supervisor, console: Console
    ) -> None:
        self._home = home
        self._invitation = invitation
        self._supervisor = supervisor
        self._console = console
        self._shown = home.ledger.stat().st_size if home.ledger.exists() else 0
        self._ends = 0

    def start(self, data: Data, device: str, trainer_socket: Path) -> None:
        """Start the trainer and, when it is ready, the SuperNode; return when the server has let
        it in."""
        self._start_trainer(data, device, trainer_socket)
        private = self._home.private
        port = free_port()
        secret = write_secret(private / "superexec.secret")
        variables = environment(private_folder(private / "flower"), poll=SERVER_POLL)
        node = flower.supernode_command(
            self._invitation.address,
            private / "ca.crt",
            private / "key",
            port=port,
            node_config=flower.write_node_config(
                private / "node.toml", {TRAINER_SOCKET: str(trainer_socket)}
            ),
            secret=secret,
        )
        self._supervisor.start(SUPERNODE, node, variables, PATIENTLY)
        executor = flower.superexec_command(f"{LOOPBACK}:{port}", None, secret)
        self._supervisor.start(SUPEREXEC, executor, variables, QUICKLY)
        self._await_server()
        self._ends = self._count_ends()
        self._say(f"joined; what leaves is noted in {self._home.ledger} (Ctrl-C leaves)")

    def watch(self) -> None:
        """Say what has left the machine since the last look, and what broke."""
        for entry in self._entries():
            self._say(f"sent {_what(entry)}: {size(entry['bytes'])}")
        ends = self._count_ends()
        if ends > self._ends:
            self._ends = ends
            self._say(f"a process ended and is started again (logs: {self._home.logs})")

    def _start_trainer(self, data: Data, device: str, trainer_socket: Path) -> None:
        options = {
            "socket": trainer_socket,
            "site": self._invitation.site,
            "dataset": data.spec,
            "side": data.side,
            "folder": self._home.path,
            "device": device,
        }
        arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "client.resident", *arguments]
        self._say("starting the trainer")
        variables = environment(self._home.private / "flower")
        self._supervisor.start(TRAINER, command, variables, QUICKLY)
        deadline = time.monotonic() + LOADING
        while not trainer_socket.exists():
            if self._supervisor.ends(TRAINER):
                raise self._failure(TRAINER, "ended while it was starting")
            if time.monotonic() > deadline:
                raise self._failure(TRAINER, f"was not ready within {LOADING:.0f} s")
            time.sleep(LOOK)

    def _await_server(self) -> None:
        deadline = time.monotonic() + PATIENCE
        said = False
        log = self._supervisor.log(SUPERNODE)
        while JOINED not in log.read_text(encoding="utf-8", errors="replace"):
            if self._supervisor.ends(SUPERNODE) and not said:
                said = True
                self._say("the server still counts a connection of this site: trying again")
            if self._supervisor.ends(SUPEREXEC) >= ATTEMPTS:
                raise self._failure(SUPEREXEC, "ended while it was starting")
            if time.monotonic() > deadline:
                raise self._failure(SUPERNODE, f"was not let in within {PATIENCE:.0f} s")
            time.sleep(LOOK)

    def _entries(self) -> Iterator[dict[str, Any]]:
        """Whole lines of the ledger since the last call."""
        if not self._home.ledger.exists():
            return
        with self._home.ledger.open("rb") as file:
            file.seek(self._shown)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._shown += len(line)
                yield json.loads(line)

    def _count_ends(self) -> int:
        return sum(self._supervisor.ends(name) for name in (TRAINER, SUPERNODE, SUPEREXEC))

    def _failure(self, name: str, what: str) -> UserError:
        last = self._supervisor.last_line(name).removeprefix("covey: ") or "no output"
        return UserError(f"the {name} {what}: {last} (log: {self._supervisor.log(name)})")

    def _say(self, text: str) -> None:
        now = time.strftime("%H:%M:%S")
        self._console.print(f"[dim]{now}[/] {text}", highlight=False, soft_wrap=True)


def describe(data: ImageData) -> str:
    """One line: how many images of what size, their classes, and which files cannot be read."""
    kind = "grey" if data.channels == 1 else "colour"
    text = f"{len(data.images)} images, {data.side}×{data.side} {kind}, "
    text += (
        f"{len(data.classes)} classes (labels serve evaluation alone)"
        if data.labels is not None
        else "no labels"
    )
    if not data.unreadable:
        return text
    named = ", ".join(data.unreadable[:NAMED])
    more = len(data.unreadable) - NAMED
    return f"{text}; {len(data.unreadable)} files left out: {named}" + (
        f" and {more} more" if more > 0 else ""
    )


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """What left the machine, oldest first; `UserError` where the folder is no site's."""
    path = SiteFolder(folder).ledger
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        if (SiteFolder(folder).private / "site").exists():
            return []
        raise UserError(f"{folder} is no site's folder: there is no {path.name}") from None
    try:
        return [json.loads(line) for line in lines if line]
    except json.JSONDecodeError:
        raise UserError(f"{path} is damaged") from None


def show_ledger(entries: list[dict[str, Any]], console: Console) -> None:
    """What left the machine, as a table."""
    table = Table(box=box.SIMPLE, show_lines=True)
    table.add_column("time", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("parts and their shapes")
    table.add_column("size", justify="right", no_wrap=True)
    for entry in entries:
        parts = [f"{name} {'×'.join(map(str, v))}" for name, v in entry["parts"].items()]
        when = entry["time"][:19].replace("T", " ")
        table.add_row(when, _what(entry), "\n".join(parts) or "–", size(entry["bytes"]))
    console.print(table)
    total = sum(entry["bytes"] for entry in entries)
    console.print(f"{len(entries)} answers, {size(total)} in all", highlight=False)


def _what(entry: Mapping[str, Any]) -> str:
    """An answer as its site's operator knows it."""
    if entry["kind"] == "hello":
        return "who this site is"
    return f"round {entry['round']} ({entry['kind']})"


def _absolute(data: str) -> str:
    """The same data for processes that start elsewhere."""
    return data if data in DATASETS else str(Path(data).absolute()) if Path(data).exists() else data
