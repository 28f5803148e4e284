"""A server's folder: `covey server init`, `invite` and `revoke`.

    server.toml      settings, for the coordinator to edit
    certificates/    the authority, and the server's certificate
    invited/         one public key per site that was invited
    revoked/         the keys of those that were and are no more
    runs/            one folder per run
    logs/            one file per process
    flower/          Flower's own: the database of runs and sites, the SuperExec's secret

A site is let in because its key lies in `invited/`: the running server registers what it finds
there, and unregisters what it does not (`settle`). The site's private key is in its invitation
alone.
"""

import base64
import hashlib
import json
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from pydantic import ValidationError

from common.utils.errors import UserError, unknown
from common.utils.files import write_atomic
from common.utils.lock import is_locked, locked
from deploy.coordinator.settings import TEMPLATE, Settings
from deploy.flower.control import Control, Node, UnreachableError, read_public_key
from deploy.identity.address import Address
from deploy.identity.certificates import (
    Authority,
    ServerCertificate,
    check_site_name,
    issue_server,
    make_authority,
    make_site_key,
    private_folder,
    write_private,
)
from deploy.identity.invitation import Invitation, complaint
from deploy.processes.supervisor import LOOPBACK

ANSWERING = 10.0  # seconds for a SuperLink that is being restarted
SETTLING = 30.0  # seconds for another command, or the running server, to be done with the sites
NOT_RUNNING = "the server is not running: covey server start"


@dataclass(frozen=True)
class ServerFolder:
    """The folder at `path`, which `init` has made."""

    path: Path

    @property
    def authority(self) -> Authority:
        """Its certificate authority."""
        return Authority(self.certificates / "ca.crt", self.certificates / "ca.key")

    @property
    def certificates(self) -> Path:
        """The folder of certificates."""
        return self.path / "certificates"

    @property
    def flower(self) -> Path:
        """The folder of what belongs to Flower."""
        return self.path / "flower"

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs."""
        return self.path / "logs"

    def link_logs(self, run: Path) -> None:
        """Let the logs be found in a run's folder, where a local run has its own, too."""
        with suppress(FileExistsError):
            (run / "logs").symlink_to(self.logs, target_is_directory=True)

    @property
    def runs(self) -> Path:
        """The folder of the runs."""
        return self.path / "runs"

    def settings(self) -> Settings:
        """What `server.toml` says; `UserError` where there is none, or it is wrong."""
        path = self.path / "server.toml"
        try:
            return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self.path} is no server's folder: name another, or make one with "
                f"covey server init {self.path} --address HOST:PORT"
            ) from None
        except ValidationError as error:
            raise UserError(f"{path}: {complaint(error)}") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"{path}: {error}") from None

    def certify(self) -> ServerCertificate:
        """A certificate for the names that the settings say now, valid for a year."""
        return issue_server(self.authority, self.certificates, self.settings().certified)

    def invited(self) -> dict[str, Path]:
        """name -> public key of every site that was invited, sorted."""
        return {path.stem: path for path in sorted((self.path / "invited").glob("*.pub"))}

    def revoked(self) -> dict[Path, str]:
        """Public key -> name of every site that was revoked, by name."""
        keys = (self.path / "revoked").glob("*.pub")
        return {path: _name(path) for path in sorted(keys)}

    def settling(self) -> AbstractContextManager[None]:
        """Be the one process that changes who is let in."""
        return locked(self.flower / "settle.lock", SETTLING)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one running server of this folder; `UserError` where there is one."""
        if self.running():
            raise UserError(f"the server in {self.path} is running already")
        with locked(self._lock):
            try:
                yield
            finally:
                self._port_file.unlink(missing_ok=True)

    def running(self) -> bool:
        """Whether a server holds this folder."""
        return is_locked(self._lock)

    def announce(self, port: int) -> None:
        """Write down where the SuperLink of the running server listens."""
        write_private(self._port_file, json.dumps({"superlink": port}).encode())

    def control(self, patience: float = 0.0) -> Control | None:
        """The running server's Control API; None where it is not running, or only starting."""
        if not self.running():
            return None
        try:
            port = int(json.loads(self._port_file.read_text())["superlink"])
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return Control(LOOPBACK, port, self.authority.certificate, patience)

    @property
    def _lock(self) -> Path:
        return self.flower / "lock"

    @property
    def _port_file(self) -> Path:
        return self.flower / "running.json"


def init(path: Path, address: str, names: Sequence[str] = ()) -> ServerFolder:
    """Make the folder of a new server that sites reach at `address`, and by `names`.

    `UserError` where there is something already, or a name cannot be one.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists already, and is not an empty folder")
    settings = Settings(address=str(Address.parse(address)), names=tuple(names))
    folder = ServerFolder(path.absolute())
    private_folder(folder.path)
    try:
        make_authority(folder.certificates)
        issue_server(folder.authority, folder.certificates, settings.certified)
    except UserError:
        _remove_certificates(folder)
        raise
    for each in (folder.flower, folder.runs, folder.logs, folder.path / "invited"):
        private_folder(each)
    values = {"address": settings.address, "names": list(names)}
    lines = {key: tomli_w.dumps({key: value}).strip() for key, value in values.items()}
    write_atomic(folder.path / "server.toml", TEMPLATE.format(**lines).encode())
    return folder


def invite(folder: ServerFolder, name: str, output: Path) -> None:
    """Invite the site `name`: write its invitation to `output`, keep its public key.

    `UserError` where the name is taken or cannot be one, or the file is there.
    """
    settings = folder.settings()
    public = folder.path / "invited" / f"{check_site_name(name)}.pub"
    if public.exists():
        raise UserError(f"the site {name!r} has been invited already")
    with tempfile.TemporaryDirectory(dir=folder.flower, prefix="key-") as scratch:
        key = make_site_key(Path(scratch), name)
        Invitation(
            address=settings.address,
            site=name,
            authority=folder.authority.certificate.read_text(encoding="ascii"),
            private_key=key.private.read_text(encoding="ascii"),
        ).write(output)
        write_atomic(public, key.public.read_bytes())


def revoke(folder: ServerFolder, name: str) -> bool:
    """Let the site `name` in no more; whether the server refuses it from now on (otherwise from its
    next start on). `UserError` where no such site is invited."""
    folder.settings()
    invited = folder.path / "invited" / f"{check_site_name(name)}.pub"
    with folder.settling():
        if not invited.exists():
            raise unknown("site", name, list(folder.invited()))
        revoked = private_folder(folder.path / "revoked")
        digest = hashlib.sha256(invited.read_bytes()).hexdigest()
        invited.rename(revoked / f"{name}-{digest[:8]}.pub")
    control = folder.control(ANSWERING)
    if control is None:
        return False
    with suppress(UnreachableError):
        settle(folder, control)
        return True
    return False


@dataclass(frozen=True)
class Settled:
    """The sites that are let in, and why one is not (name -> reason)."""

    nodes: list[Node]
    refused: dict[str, str]


def settle(folder: ServerFolder, control: Control) -> Settled:
    """Have the SuperLink let in exactly the keys in `invited/`."""
    with folder.settling():
        invited = {read_public_key(path): path for path in folder.invited().values()}
        nodes = control.nodes()
        for node in nodes:
            if node.key not in invited:
                control.unregister(node.id)
        known = {node.key for node in nodes}
        refused = {}
        for key, path in invited.items():
            if key not in known:
                try:
                    control.register(path, path.stem)
                except UserError as error:
                    refused[path.stem] = str(error)
        return Settled([node for node in nodes if node.key in invited], refused)


def fingerprint(public_key: Path) -> str:
    """As `ssh-keygen -l` prints it: SHA-256 over the key, in base64."""
    blob = base64.b64decode(public_key.read_text(encoding="ascii").split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _name(public_key: Path) -> str:
    """A site's name, which is the comment of its key."""
    return public_key.read_text(encoding="ascii").split(maxsplit=2)[2].strip()


def _remove_certificates(folder: ServerFolder) -> None:
    """So that a second `init` finds an empty folder."""
    for path in folder.certificates.glob("*"):
        path.unlink()
    folder.certificates.rmdir()
