"""`covey client status` and `leave`: whether a site has joined, and how it leaves."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from client.storage.exclusions import Exclusions
from common.utils.errors import UserError
from deploy.flower.proxy import through
from deploy.flower.reach import check_invited, check_server
from deploy.identity.address import Address
from deploy.site.folder import SiteFolder
from deploy.site.left import in_all, read_ledger, run_of, what, when

LEAVING = 30.0  # seconds for the trainer and Flower's processes to end
LOOK = 0.1


def pick_folder(given: Path | None) -> SiteFolder:
    """The site's folder that was named, or the only one here; `UserError` otherwise."""
    if given is not None:
        return SiteFolder(given.absolute())
    found = sorted(path for path in Path().glob("covey-site-*") if path.is_dir())
    if not found:
        raise UserError("no site's folder is here: name it, or join first (covey client join -h)")
    if len(found) > 1:
        raise UserError(f"name the site's folder (here: {', '.join(map(str, found))})")
    return SiteFolder(found[0].absolute())


def show_status(home: SiteFolder, console: Console) -> bool:
    """Say how the site is, one line each; whether it has joined."""
    invitation = home.invitation()
    presence = home.presence()
    joined = str(presence.get("joined", ""))
    lines = [f"site: {invitation.site}"]
    if joined:
        lines.append(
            f"joined: since {joined[:19].replace('T', ' ')} (process {presence['process']})"
        )
    else:
        lines.append("joined: not yet, it is starting" if home.held() else "joined: no")
    try:
        with through(_proxy(home)):
            answer = check_server(Address.parse(invitation.address), home.private / "ca.crt")
            check_invited(invitation, answer)
        lines.append(f"server: {invitation.address} answers, and knows this site")
    except UserError as error:
        lines.append(f"server: {error}")
    entries = read_ledger(home.path)
    if entries:
        run = run_of(entries[-1])
        about = f"{what(entries[-1])}, {when(entries[-1])}"
        lines.append(f"last answer: {about}" + (f", run {run}" if run else ""))
    lines.append(f"left this machine: {in_all(entries)}")
    withdrawn = Exclusions(home.path).read()
    if withdrawn:
        last = max(each.time for each in withdrawn.values())[:19].replace("T", " ")
        lines.append(f"taken back: {len(withdrawn):,} images, the last of them {last}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return bool(joined)


def _proxy(home: SiteFolder) -> str:
    """That with which somebody has joined from the folder last."""
    try:
        return home.proxy.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def leave(home: SiteFolder) -> SiteFolder:
    """End the process that has joined from the folder; `UserError` where there is none, or it does
    not end."""
    home.invitation()
    process = home.presence().get("process")
    if not isinstance(process, int):
        raise UserError(f"nobody has joined from {home.path}")
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
    end = time.monotonic() + LEAVING
    while home.held():
        if time.monotonic() > end:
            raise UserError(f"the process {process} has not ended within {LEAVING:.0f} s")
        time.sleep(LOOK)
    return home
