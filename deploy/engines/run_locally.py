"""`covey run`: a whole federation of separate processes on this machine, around one run.

SuperLink, ServerApp, and for each site its connection and its trainer: the same processes that run
on separate machines, with TLS and authentication on.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.config.options import Plan
from common.data import ImageData
from common.data.planned import partition_in, planned_data
from common.record.reader import Follower, has_run, read_settings
from common.utils.errors import RunFailed, UserError
from common.utils.lock import is_locked
from common.utils.names import is_utf8
from deploy.engines.federation import LocalFederation, SiteSpec
from deploy.engines.runs import way_on
from deploy.flower.bundle import write_bundle
from deploy.terminal.live import live_line
from deploy.terminal.progress import show_event
from server.run.folder import LOCK

LOOK = 0.3  # seconds between two looks at the run folder
ASK = 15.0  # seconds between two questions to Flower whether the run is still alive
FAREWELL = 3.0  # seconds in which a ServerApp that ends by itself tells Flower so
RESTARTS = 3  # of a ServerApp that was killed


class ServerAppKilled(RunFailed):
    """A ServerApp that ended without a word."""


def run_locally(plan: Plan, config: Mapping[str, str], folder: Path, console: Console) -> None:
    """Start the federation, run `config` (Flower's run configuration for `plan`) and follow it to
    its end; nothing to do where it has finished. Every process is stopped on the way out, whatever
    happens."""
    if read_status(folder)[0] == "finished":
        return
    data = planned_data(plan)
    show_files(data, console)
    parts = partition_in(folder, plan, data).sites
    sites = [local_site(plan, folder, index) for index, part in enumerate(parts) if len(part)]
    with tempfile.TemporaryDirectory(prefix="covey-") as short:
        private = (folder if is_utf8(folder) else Path(short)) / "federation"  # Flower's
        with LocalFederation(private, folder / "logs") as federation:
            bundle = write_bundle(private / "bundle", config)
            run_id = federation.start(
                sites, lambda text: console.print(f"[dim]{text}[/]", highlight=False), bundle
            )
            try:
                _carry_through(federation, run_id, bundle, plan, folder, console)
            except KeyboardInterrupt:
                way = way_on(folder, "run")
                console.print(way, highlight=False, markup=False, soft_wrap=True)
                raise


def _carry_through(
    federation: LocalFederation,
    run_id: int,
    bundle: Path,
    plan: Plan,
    folder: Path,
    console: Console,
) -> None:
    """Follow the run of the bundle to its end; a ServerApp that was killed is started again, and
    goes on from its last checkpoint."""
    for left in reversed(range(RESTARTS + 1)):
        try:
            follow(folder, plan, console, partial(federation.status, run_id))
        except ServerAppKilled as error:
            if not left:
                raise RunFailed(f"{error}; {way_on(folder, 'run')}") from None
            said = escape(f"{error}: starting it again")
            console.print(f"[yellow]warning[/] {said}", highlight=False)
            with suppress(UserError):  # Flower may have noticed by now
                federation.stop_run(run_id)
            run_id = federation.submit(bundle)
        except RunFailed as error:
            raise RunFailed(f"{error}; {way_on(folder, 'run')}") from None
        else:
            return


def show_files(data: ImageData, console: Console) -> None:
    """Say what became of the files of a folder of images, where not all of them are used."""
    for line in data.account.lines() if data.account else ():
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def local_site(plan: Plan, folder: Path, index: int) -> SiteSpec:
    """Site `index` of the partition that lies in `folder`."""
    name = f"site-{index}"
    threads = max(1, (os.cpu_count() or 1) // plan.expected_sites)
    options = {
        "site": name,
        "dataset": plan.dataset,
        "images": plan.images,
        "seed": plan.seed,
        "preparation": plan.preparation.to_json(),
        "partition": folder / "partition.json",
        "index": index,
        "folder": folder / "sites" / name,
        "device": plan.device,
        "threads": threads,
    }
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    command = (sys.executable, "-m", "client.resident", *arguments)
    return SiteSpec(name, command)


def follow(
    folder: Path, plan: Plan, console: Console, status: Callable[[], tuple[str, str]]
) -> None:
    """Show the run's events, and what it is doing, until it has ended; `RunFailed` where it did not
    finish."""
    with live_line(folder, console):
        _follow(folder, plan, console, status)


def _follow(
    folder: Path, plan: Plan, console: Console, status: Callable[[], tuple[str, str]]
) -> None:
    """The ServerApp holds the folder's lock, so that its end is seen at once, where Flower waits a
    minute for its heartbeat.
    """
    follower = Follower(folder)
    asked = time.monotonic()
    seen = asked  # when the ServerApp was last seen at work
    begun = False
    logs = f"(logs: {folder / 'logs'})"
    while True:
        now = time.monotonic()
        at_work = is_locked(folder / LOCK)  # before the rest is read: it writes, then lets go
        begun |= at_work
        seen = now if at_work or not begun else seen
        for event in follower.events():
            show_event(console, event, plan.rounds)
        state, reason = read_status(folder)
        if state == "finished":
            return
        if state == "failed":
            raise RunFailed(f"the run failed: {reason} {logs}")
        if seen < now or now - asked > ASK:
            asked = now
            ended, details = status()
            if ended.startswith("finished") and read_status(folder)[0] == "running":
                said = details.removeprefix("ServerApp failed with exception: ") or ended
                raise RunFailed(f"the ServerApp ended: {said} {logs}")
        if now - seen > FAREWELL:
            raise ServerAppKilled(f"the ServerApp was killed {logs}")
        time.sleep(LOOK)


def read_status(folder: Path) -> tuple[str, str]:
    """(status, reason) of the run; "running" before it has begun."""
    if not has_run(folder):
        return "running", ""
    run = read_settings(folder)
    return run.status, run.reason or ""
