"""`python -m deploy.processes.health FOLDER...`: whether the server or the site in a folder is at
work.

A container's health check: exit status 0 or 1, and one line. It is asked every few seconds, so it
imports neither Flower nor torch.
"""

import http.client
import json
import ssl
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from common.utils.errors import UserError
from common.utils.lock import is_locked
from deploy.identity.address import Address

TIMEOUT = 5.0  # seconds


def health(folders: Sequence[Path]) -> str:
    """One line about the first of `folders` that is a server's or a site's; `UserError` where it is
    not at work, or none is one."""
    for folder in folders:
        if (folder / "server.toml").exists():
            return _server(folder)
        if (folder / "private" / "site").exists():
            return _site(folder)
    raise UserError(f"no server's or site's folder: {', '.join(map(str, folders)) or 'none named'}")


def _server(folder: Path) -> str:
    """Asks the front, as a site does; the SuperLink behind it answers."""
    settings = tomllib.loads((folder / "server.toml").read_text(encoding="utf-8"))
    listens = settings.get("listen") or str(Address.parse(settings["address"]).listen())
    here = Address.parse(listens).from_here()
    authority = ssl.create_default_context(cafile=str(folder / "certificates" / "ca.crt"))
    connection = http.client.HTTPSConnection(
        here.host, here.port, timeout=TIMEOUT, context=authority
    )
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"the server does not answer at {here} ({error})") from None
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise UserError(f"the server's front answers at {here}, but not its SuperLink ({status})")
    return f"the server answers at {here}"


def _site(folder: Path) -> str:
    """Asks nobody: who has joined holds the folder's lock and has noted when (`SiteFolder`)."""
    private = folder / "private"
    if not is_locked(private / "lock"):
        raise UserError(f"nobody has joined from {folder}")
    try:
        presence = json.loads((private / "presence.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        presence = {}
    if not presence.get("joined"):
        raise UserError(f"the site in {folder} has not been let in yet")
    return f"the site has been in since {presence['joined']}"


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    try:
        print(health([Path(each) for each in arguments]))
    except UserError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
