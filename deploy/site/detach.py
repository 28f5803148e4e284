"""`covey client join --detach`: the same in the background, once it has joined."""

import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from common.utils.errors import UserError
from deploy.flower.proxy import through
from deploy.identity.certificates import private_folder
from deploy.identity.invitation import Invitation
from deploy.processes.log import LogFollower
from deploy.processes.supervisor import environment
from deploy.site.checks import Data
from deploy.site.folder import SiteFolder
from deploy.site.join import LOADING, PATIENCE, Terms, site_folder, tell

LOOK = 0.2


def join_behind(
    invitation_file: Path, data: Data, terms: Terms, folder: Path | None, console: Console
) -> None:
    """Join in a process of its own, show what it says until it has joined, and leave it running.

    `UserError` with its last line where it ends before.
    """
    with through(terms.proxy):
        _join_behind(invitation_file, data, terms, folder, console)


def _join_behind(
    invitation_file: Path, data: Data, terms: Terms, folder: Path | None, console: Console
) -> None:
    home = site_folder(Invitation.read(invitation_file), folder)
    if home.held():
        raise UserError(f"the site in {home.path} has joined already")
    data = data.absolute()
    command = [sys.executable, "-m", "deploy.cli.main"]
    command += ["client", "join", str(invitation_file.absolute())]
    command += [*data.options(), *terms.options()]
    command += ["--folder", str(home.path)]
    private_folder(home.path)
    private_folder(home.logs)
    log = home.client_log
    log.unlink(missing_ok=True)
    with log.open("ab") as file:  # appended to, so that it can be kept short
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(home.private / "flower") | {"COLUMNS": "200"},
            start_new_session=True,
        )
    try:
        _follow(process, home, LogFollower(log), console)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    tell(
        console,
        f"in the background: `covey client status {home.path}`, `covey client leave {home.path}` "
        f"(log: {log})",
    )


def _follow(
    process: "subprocess.Popen[bytes]", home: SiteFolder, log: LogFollower, console: Console
) -> None:
    end = time.monotonic() + LOADING + PATIENCE
    last = ""
    while not home.presence().get("joined"):
        ended = process.poll() is not None  # before the rest is read
        for line in log.lines():
            if last:
                tell(console, last)
            last = line
        if ended:
            raise UserError(last.removeprefix("covey: ") or "the client ended without a word")
        if time.monotonic() > end:
            raise UserError(f"it has not joined within {LOADING + PATIENCE:.0f} s")
        time.sleep(LOOK)
    for line in filter(None, (last, *log.lines())):
        tell(console, line)
