"""`covey run`: a whole federation of separate processes on this machine, around one run.

SuperLink, ServerApp, and for each site a SuperNode with its resident trainer: the same processes
that run on separate machines, with TLS and SuperNode authentication on.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from common.data.planned import planned_data, planned_partition
from common.options import Plan
from deploy.bundle import write_bundle
from deploy.federation import LocalFederation, SiteSpec
from deploy.progress import Follower, show_event

LOOK = 0.3  # seconds between two looks at the run folder
ASK = 15.0  # seconds between two questions to Flower whether the run is still alive


class RunFailed(Exception):
    """A run that ended without a result; its text says why and where to read more."""


def run_locally(plan: Plan, config: Mapping[str, str], folder: Path, console: Console) -> None:
    """Start the federation, run `config` (Flower's run configuration for `plan`) and follow it to
    its end. Every process is stopped on the way out, whatever happens."""
    planned_partition(plan, planned_data(plan)).save(folder / "partition.json")
    with tempfile.TemporaryDirectory(prefix="covey-") as sockets:
        sites = [_site(plan, folder, Path(sockets), index) for index in range(plan.sites)]
        with LocalFederation(folder / "federation", folder / "logs") as federation:
            federation.start(sites, lambda text: console.print(f"[dim]{text}[/]", highlight=False))
            bundle = write_bundle(folder / "federation" / "bundle", config)
            run_id = federation.submit(bundle)
            follow(folder, plan, console, lambda: federation.status(run_id))


def _site(plan: Plan, folder: Path, sockets: Path, index: int) -> SiteSpec:
    name = f"site-{index}"
    socket = sockets / f"{index}.sock"
    threads = max(1, (os.cpu_count() or 1) // plan.sites)
    options = {
        "socket": socket,
        "site": name,
        "dataset": plan.dataset,
        "images": plan.images,
        "seed": plan.seed,
        "side": plan.side,
        "partition": folder / "partition.json",
        "index": index,
        "folder": folder / "sites" / name,
        "device": plan.device,
        "threads": threads,
    }
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    command = (sys.executable, "-m", "client.resident", *arguments)
    return SiteSpec(name, command, {"trainer-socket": str(socket)})


def follow(
    folder: Path, plan: Plan, console: Console, status: Callable[[], tuple[str, str]]
) -> None:
    """Show the run's events until it has ended; `RunFailed` where it did not finish."""
    follower = Follower(folder)
    asked = time.monotonic()
    while True:
        for event in follower.events():
            show_event(console, event, plan.rounds)
        state, reason = read_status(folder)
        if state == "finished":
            return
        if state == "failed":
            raise RunFailed(f"the run failed: {reason} (logs: {folder / 'logs'})")
        if time.monotonic() - asked > ASK:
            asked = time.monotonic()
            ended, details = status()
            if ended.startswith("finished") and read_status(folder)[0] == "running":
                raise RunFailed(
                    f"the ServerApp ended: {details or ended} (logs: {folder / 'logs'})"
                )
        time.sleep(LOOK)


def read_status(folder: Path) -> tuple[str, str]:
    """(status, reason) of `run.json`; "running" before it is written."""
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return "running", ""
    return str(run.get("status", "running")), str(run.get("reason", ""))
