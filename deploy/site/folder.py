"""A site's folder: what it holds, whose it is, and whether someone has joined from it.

left.jsonl   the log of what left the machine
forgotten.jsonl  the images that were taken back, by digest
RUN/         for each run the site's own state and its images' clusters
logs/        one file per process
private/     the invitation's parts, and what belongs to Flower
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.utils.errors import UserError
from common.utils.files import write_atomic
from common.utils.lock import is_locked, locked
from deploy.identity.certificates import private_folder, write_private
from deploy.identity.invitation import Invitation

LOOKED_AT = (
    1.0  # seconds: `covey client status` holds the lock for an instant, to see if it is free
)


@dataclass(frozen=True)
class SiteFolder:
    """Where a site keeps what is its own."""

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
    def proxy(self) -> Path:
        """The proxy that was asked for with `--proxy` when somebody joined last, if one was."""
        return self.private / "proxy"

    @property
    def client_log(self) -> Path:
        """What `covey client join --detach` says in the background."""
        return self.logs / "client.log"

    @property
    def data(self) -> Path:
        """What somebody joined with last, as `--data` had it."""
        return self.private / "data"

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
        write_atomic(self.private / "address", invitation.address.encode())
        write_private(self.private / "key", invitation.private_key.encode())
        write_private(self.private / "ca.crt", invitation.authority.encode())

    def invitation(self) -> Invitation:
        """What `claim` has kept; `UserError` where nobody has joined from this folder."""
        names = {"site": "site", "address": "address", "private_key": "key", "authority": "ca.crt"}
        try:
            parts = {
                part: (self.private / name).read_text(encoding="utf-8")
                for part, name in names.items()
            }
        except (FileNotFoundError, NotADirectoryError):
            raise self._nobody() from None
        return Invitation(**parts)

    def owner(self) -> str:
        """Whose folder it is; `UserError` where nobody has joined from it."""
        try:
            return (self.private / "site").read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise self._nobody() from None

    def _nobody(self) -> UserError:
        return UserError(f"{self.path} is no site's folder: nobody has joined from it")

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one process that has joined from this folder; `UserError` where there is one."""
        if self.held():
            raise UserError(f"the site in {self.path} has joined already")
        with locked(self._lock, LOOKED_AT):
            self._write_presence(joined="")
            try:
                yield
            finally:
                self._presence.unlink(missing_ok=True)

    def held(self) -> bool:
        """Whether a process has joined from this folder, or is about to."""
        return is_locked(self._lock)

    def announce(self) -> None:
        """Note that the process that holds the folder has joined."""
        self._write_presence(joined=time.strftime("%Y-%m-%dT%H:%M:%S%z"))

    def presence(self) -> dict[str, Any]:
        """`process` (its id) and `joined` (when; "" before) of who holds the folder; {} if nobody
        does."""
        if not self.held():
            return {}
        try:
            return dict(json.loads(self._presence.read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def _write_presence(self, joined: str) -> None:
        content = json.dumps({"process": os.getpid(), "joined": joined})
        write_private(self._presence, content.encode())

    @property
    def _lock(self) -> Path:
        return self.private / "lock"

    @property
    def _presence(self) -> Path:
        return self.private / "presence.json"
