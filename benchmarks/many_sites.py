"""How many sites one server serves: an exchange of 1 MB with 10, 50, 200, 500 sites.

    python benchmarks/many_sites.py

A SuperLink, a SuperExec and the front, as `covey server start` starts them, and sites that echo
what they are sent at once: each has a key and a connection of its own, many share a process
(`benchmarks/many_sites_apps/`). An exchange is: ask all, hear all. Seconds are the median over the
exchanges of a run but the first; CPU seconds are per exchange, memory is the peak of each process.
Everything runs on this machine, the sites too.
"""

import json as jsons
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import _processes
import typer
from _table import save_json, show

from deploy.flower import commands as flower
from deploy.flower.bundle import write_bundle
from deploy.flower.control import Control
from deploy.identity.address import Address
from deploy.identity.certificates import (
    Authority,
    issue_server,
    make_authority,
    make_site_key,
    private_folder,
    write_secret,
)
from deploy.processes.supervisor import LOOPBACK, Supervisor, environment, free_ports

APPS = Path(__file__).resolve().parent / "many_sites_apps"
PATIENCE = 120.0  # seconds for the SuperLink
COMING = 900.0  # seconds for the sites
SUPERLINK, SUPEREXEC, FRONT, SITES = "superlink", "superexec", "front", "sites"
LOOK = 2.0  # seconds between two questions whether the run is over, which cost the SuperLink CPU
RATE = 1_000_000  # requests a second of one address: here all sites share one


def main(
    sites: Annotated[str, typer.Option(help="numbers of sites, in turn")] = "10,50,200,500",
    megabytes: float = 1.0,
    exchanges: int = 4,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
) -> None:
    """Measure each number of sites on a server of its own, and print the table."""
    rows = []
    for number in map(int, sites.split(",")):
        with tempfile.TemporaryDirectory(prefix="cb-") as private:
            row = measure(Path(private), number, round(megabytes * 1e6), exchanges)
        rows.append(row)
        print(jsons.dumps(row), flush=True)
    report(rows, megabytes)
    if json is not None:
        save_json(json, rows)


@dataclass(frozen=True)
class Server:
    """A running server: `address` is its front's."""

    folder: Path
    supervisor: Supervisor
    control: Control
    address: Address
    authority: Authority
    variables: dict[str, str]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server in `folder`."""
    authority = make_authority(private_folder(folder / "certificates"))
    certificate = issue_server(authority, folder / "certificates", ())
    secret = write_secret(folder / "superexec.secret")
    inner, outer = (Address(LOOPBACK, port) for port in free_ports(2))
    home = private_folder(folder / "flwr")
    path = {"PYTHONPATH": f"{APPS}:{APPS.parents[1]}"}
    variables = environment(home, poll=0.25) | path
    database = folder / "superlink.db"
    with Supervisor(folder / "logs", folder / "empty") as supervisor:
        command = flower.superlink_command(
            LOOPBACK, inner.port, authority, certificate, secret=secret, database=database
        )
        supervisor.start(SUPERLINK, command, variables)
        control = Control(LOOPBACK, inner.port, authority.certificate, PATIENCE)
        control.sites()
        flower.write_connection(home, str(inner), authority)
        executor = flower.superexec_command(str(inner), authority.certificate, secret)
        supervisor.start(SUPEREXEC, executor, variables)
        options = {
            "listen": outer,
            "superlink": inner,
            "certificates": folder / "certificates",
            "address-rate": RATE,
        }
        pairs = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        front = [sys.executable, "-m", "deploy.coordinator.front", *pairs]
        supervisor.start(FRONT, front, variables)
        yield Server(folder, supervisor, control, outer, authority, variables)


def measure(folder: Path, sites: int, size: int, exchanges: int) -> dict[str, Any]:
    """The figures of one number of sites."""
    with serving(folder) as server:
        start_sites(server, sites)
        lines = folder / "lines"
        config = {"bytes": size, "exchanges": exchanges, "sites": sites, "lines": str(lines)}
        bundle = write_bundle(folder / "bundle", config, "many_sites_server", "client.app")
        run_id = server.control.submit(bundle)
        names = server.supervisor.guardians()
        spent: dict[str, float] = {}
        while not (status := server.control.status(run_id))[0].startswith("finished"):
            if not spent and lines.exists():  # the first exchange is over
                spent = {name: _processes.cpu(leader) for name, leader in names.items()}
            time.sleep(LOOK if spent else 0.2)
        if status[0] != "finished:completed":
            raise SystemExit(f"{sites} sites: {' '.join(status)}: {folder}/logs")
        cpu = {name: _processes.cpu(leader) - spent[name] for name, leader in names.items()}
        peak = {name: _processes.peak(leader) for name, leader in names.items()}
        told = [jsons.loads(line) for line in lines.read_text().splitlines()]
        database = sum(f.stat().st_size for f in folder.glob("superlink.db*")) / 1e6
    return {
        "sites": sites,
        "seconds": statistics.median(line["seconds"] for line in told[1:]),
        "first": told[0]["seconds"],
        "pushing": statistics.median(line["pushing"] for line in told[1:]),
        "errors": sum(line["errors"] for line in told),
        "cpu": {
            **{name: cpu[name] / (exchanges - 1) for name in (SUPERLINK, FRONT, SITES)},
            "serverapp": statistics.median(line["cpu"] for line in told[1:]),
        },
        "peak": {
            **{name: peak[name] for name in (SUPERLINK, FRONT, SITES)},
            "serverapp": told[-1]["peak"],
        },
        "database": database,
    }


def start_sites(server: Server, number: int) -> None:
    """Let them in, start them, and wait until all are there."""
    keys = []
    for index in range(number):
        key = make_site_key(server.folder / "keys", f"fake-{index}")
        server.control.register(key.public, f"fake-{index}")
        keys.append(str(key.private))
    listed = server.folder / "keys.txt"
    listed.write_text("\n".join(keys))
    marks = private_folder(server.folder / "marks")
    script = [sys.executable, str(APPS / "fake_sites.py")]
    arguments = [str(server.address), str(server.authority.certificate), str(listed), str(marks)]
    server.supervisor.start(SITES, [*script, *arguments], server.variables)
    end = time.monotonic() + COMING
    while sum(status == "online" for status in server.control.sites().values()) < number:
        if time.monotonic() > end:
            raise SystemExit(f"not all of {number} sites came: {server.folder}/logs")
        time.sleep(0.5)


def report(rows: list[dict[str, Any]], megabytes: float) -> None:
    """Print the table."""
    names = (SUPERLINK, FRONT, "serverapp", SITES)
    show(
        f"an exchange of {megabytes:g} MB; CPU s an exchange; peak MB",
        ["sites", "seconds", "errors", *(f"CPU {n}" for n in names), *(f"MB {n}" for n in names)],
        [
            [
                row["sites"],
                row["seconds"],
                row["errors"],
                *(row["cpu"][name] for name in names),
                *(row["peak"][name] for name in names),
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    typer.run(main)
