"""`covey client join`: a site joins a federation with one invitation, and stays until interrupted.

Its connection and its trainer, each restarted when it ends by itself; all ended with this process.
The connection answers no run but one whose bundle is what the Covey installed here would write
(`deploy/flower/pin.py`). With `--any-bundle`: Flower's SuperNode and SuperExec, and the trainer.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.config.options import MIN_COUNT
from common.protocol.messages import NOT_TAKEN
from common.utils.errors import UserError
from common.utils.logs import keep_short
from common.utils.names import portable
from deploy.flower import bundle
from deploy.flower.lines import (
    AGAIN_THERE,
    COUNTED,
    NO_WAY,
    TRAINER_AGAIN,
    TRAINER_ENDED,
    TRAINER_READY,
)
from deploy.flower.proxy import through
from deploy.flower.reach import UnknownSiteError, check_invited
from deploy.flower.server_node import POLL
from deploy.flower.site_node import SiteNode, has_to_be_stock
from deploy.identity.certificates import private_folder, write_private
from deploy.identity.invitation import Invitation
from deploy.processes.log import LogFollower
from deploy.processes.starting import ATTEMPTS
from deploy.processes.supervisor import Supervisor, environment
from deploy.site.checks import Data, check_data, check_rest
from deploy.site.folder import SiteFolder
from deploy.site.left import LedgerFollower, what
from deploy.terminal.progress import size

PATIENCE = 120.0  # seconds: another process with this key is counted for up to 60
LOADING = 600.0  # seconds for torch and the images: a folder of photographs is decoded
LOOK = 0.2
TAKE_WEIGHTS = "--take-weights"
WATCH = 1.0
WARNING = (
    f"[yellow]warning[/] {bundle.ANY}: whatever code the coordinator sends runs on this machine, "
    "as this user"
)


@dataclass(frozen=True)
class Terms:
    """How a site takes part: `device` to train on; `any_bundle`: the coordinator may send code;
    `min_count`: the fewest images behind a count, a sum or a centroid that leaves the site;
    `proxy`: its way to the server ("": what the environment says); `take_weights`: an encoder's
    weights that are not here are taken from it."""

    device: str = "auto"
    any_bundle: bool = False
    min_count: int = MIN_COUNT
    proxy: str = ""
    take_weights: bool = False

    def options(self) -> list[str]:
        """The options of `covey client join` that say the same. The proxy, which may hold a
        password, goes by the environment."""
        options = ["--device", self.device, "--min-count", str(self.min_count)]
        said = {bundle.ANY: self.any_bundle, TAKE_WEIGHTS: self.take_weights}
        return [*options, *(name for name, wanted in said.items() if wanted)]


def join(
    invitation_file: Path, data: Data, terms: Terms, folder: Path | None, console: Console
) -> None:
    """Check data, device, versions and connection, join, and stay until interrupted; every process
    is ended on the way out. `UserError` where something does not fit, before anything has left the
    machine, and where the server has revoked the site."""
    with through(terms.proxy):
        _join(invitation_file, data, terms, folder, console)


def _join(
    invitation_file: Path, data: Data, terms: Terms, folder: Path | None, console: Console
) -> None:
    invitation = Invitation.read(invitation_file)
    tell(console, f"site: {invitation.site}")
    data = data.absolute()
    home = site_folder(invitation, folder)
    for line in check_data(data, home, console):
        tell(console, line)
    home.claim(invitation)
    write_private(home.data, portable(data.spec).encode())  # `covey client forget` looks there
    write_private(home.proxy, terms.proxy.encode())  # `covey client status` takes the same way
    with home.hold():
        for line in check_rest(home, invitation, terms.device):
            tell(console, line)
        if terms.any_bundle:
            console.print(WARNING, highlight=False, soft_wrap=True)
        with (
            tempfile.TemporaryDirectory(prefix="covey-") as sockets,
            Supervisor(home.logs, home.private / "empty") as supervisor,
        ):
            why = has_to_be_stock()
            if why:
                tell(console, why)
            node = SiteNode(
                home.private / "address",
                home.private / "ca.crt",
                home.private / "key",
                home.private,
                trainer_command(home, invitation.site, data, terms),
                stock=terms.any_bundle or bool(why),
                pinned=not terms.any_bundle,
                sockets=Path(sockets),
            )
            site = _Site(home, invitation, node, supervisor, console)
            try:
                site.start()
                while True:
                    site.watch()
                    time.sleep(WATCH)
            except KeyboardInterrupt:
                console.print("stopping", highlight=False)


def site_folder(invitation: Invitation, folder: Path | None) -> SiteFolder:
    """The folder of a site: the one that was asked for, or one by its name."""
    return SiteFolder((folder or Path(f"covey-site-{invitation.site}")).absolute())


def trainer_command(home: SiteFolder, site: str, data: Data, terms: Terms) -> list[str]:
    """What starts the trainer of the site with this name."""
    options = {
        "site": site,
        "dataset": data.spec,
        "preparation": data.how.to_json(),
        "folder": home.path,
        "device": terms.device,
        "min-count": terms.min_count,
    }
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    arguments += [TAKE_WEIGHTS] * terms.take_weights
    return [sys.executable, "-m", "client.resident", *arguments]


class _Site:
    """The processes, and how far their logs and the log of what left have been shown."""

    def __init__(
        self,
        home: SiteFolder,
        invitation: Invitation,
        node: SiteNode,
        supervisor: Supervisor,
        console: Console,
    ) -> None:
        self._home = home
        self._invitation = invitation
        self._node = node
        self._supervisor = supervisor
        self._console = console
        self._left = LedgerFollower(home.ledger)
        self._said = LogFollower(supervisor.log(node.speaker))
        self._noted = LogFollower(supervisor.log(node.trainer_name))
        self._away = False  # the server could not be reached when it was last tried
        self._ends = 0

    def start(self) -> None:
        """Start the processes; return when the trainer is ready and the server has let them in."""
        self._say("starting the trainer")
        variables = environment(private_folder(self._home.private / "flower"), poll=POLL)
        self._node.start(self._supervisor, variables)
        self._await_trainer()
        self._await_server()
        self._ends = self._count_ends()
        self._say(
            f"joined; what leaves is noted in {escape(str(self._home.ledger))} (Ctrl-C leaves)"
        )
        self._home.announce()  # `--detach` shows what has been said until then

    def watch(self) -> None:
        """Say what has left the machine since the last look, what was refused and what broke;
        `UserError` where the server has revoked the site."""
        for entry in self._left.entries():
            self._say(f"sent {what(entry)}: {size(entry['bytes'])}")
        again = False
        for line in self._said.lines():
            if bundle.REFUSED in line:
                self._say(escape(line[line.index(bundle.REFUSED) :]))
            again |= TRAINER_AGAIN in line
            self._tell_the_way(line)
        for line in self._noted.lines():
            if NOT_TAKEN in line:
                self._say(f"[yellow]{escape(line[line.index(NOT_TAKEN) :])}[/]")
        keep_short(self._home.client_log)
        ends = self._count_ends()
        if ends > self._ends:
            self._ends = ends
            self._check_revoked()
            again = True
        if again:
            logs = escape(str(self._home.logs))
            self._say(f"a process ended and is started again (logs: {logs})")

    def _tell_the_way(self, line: str) -> None:
        """Say it once when the server cannot be reached, and when it is there again."""
        if NO_WAY in line and not self._away:
            self._say(f"[yellow]{escape(line[line.index(NO_WAY) :])}; it is tried again[/]")
        elif AGAIN_THERE in line and self._away:
            self._say(AGAIN_THERE)
        self._away = NO_WAY in line or (self._away and AGAIN_THERE not in line)

    def _check_revoked(self) -> None:
        try:
            check_invited(self._invitation)
        except UnknownSiteError:
            raise UserError(
                f"the server has revoked the site {self._invitation.site!r}: "
                "ask the coordinator for a new invitation"
            ) from None
        except UserError:
            return  # it cannot be asked just now; the SuperNode goes on trying

    def _await_trainer(self) -> None:
        deadline = time.monotonic() + LOADING
        name, speaker = self._node.trainer_name, self._node.speaker
        while TRAINER_READY not in self._log(name):
            if self._supervisor.ends(name if self._node.stock else speaker):
                failed = self._node.stock or TRAINER_ENDED in self._log(speaker)
                raise self._failure(name if failed else speaker, "ended while it was starting")
            if time.monotonic() > deadline:
                raise self._failure(name, f"was not ready within {LOADING:.0f} s")
            time.sleep(LOOK)

    def _await_server(self) -> None:
        deadline = time.monotonic() + PATIENCE
        said = False
        name = self._node.speaker
        while self._node.joined not in self._log(name):
            stock = self._node.stock
            if not said and (COUNTED in self._log(name) or (stock and self._supervisor.ends(name))):
                said = True
                self._say(COUNTED)
            for each in self._node.names:
                counted = stock and each == name  # such a SuperNode ends, and is started again
                if not counted and self._supervisor.ends(each) >= ATTEMPTS:
                    raise self._failure(each, "ended while it was starting")
            if time.monotonic() > deadline:
                raise self._failure(name, f"was not let in within {PATIENCE:.0f} s")
            time.sleep(LOOK)

    def _log(self, name: str) -> str:
        try:
            return self._supervisor.log(name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def _count_ends(self) -> int:
        return sum(self._supervisor.ends(name) for name in self._node.names)

    def _failure(self, name: str, what_happened: str) -> UserError:
        last = self._supervisor.last_line(name).removeprefix("covey: ") or "no output"
        return UserError(f"the {name} {what_happened}: {last} (log: {self._supervisor.log(name)})")

    def _say(self, text: str) -> None:
        now = time.strftime("%H:%M:%S")
        self._console.print(f"[dim]{now}[/] {text}", highlight=False, soft_wrap=True)


def tell(console: Console, text: str) -> None:
    """Say it as it is, on one line however long."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
