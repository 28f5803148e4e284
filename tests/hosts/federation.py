"""A server and two sites, each on a host of its own, and what a run of theirs has come to."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from sklearn.datasets import load_digits

from tests.deploy.helpers import until
from tests.hosts.machine import PATIENCE, Machine, Typed
from tests.hosts.network import Network

SITES = ("north", "south")
IMAGES = 120  # per site
NAME, PORT = "fl.example.org", 8443  # as in docs/coordinator/server.md
TINY = ("--encoder", "small-convnet", "--local-epochs", "1", "--batch-size", "32")


def draw_images(folder: Path, first: int, number: int) -> None:
    """Handwritten digits as PNG files, 8×8, without labels."""
    folder.mkdir(parents=True)
    for index, pixels in enumerate(load_digits().images[first : first + number]):
        file = folder / f"{first + index:04}.png"
        Image.fromarray((pixels * 255 / 16).round().astype("uint8")).save(file)


class Run:
    """`covey submit`, watched through its folder at the server and the logs of its sites.

    `logs`: of each site's connection, with its size before the run.
    """

    def __init__(self, command: Typed, folder: Path, logs: dict[str, tuple[Path, int]]) -> None:
        self.command = command
        self.folder = folder
        self._logs = logs

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """The event of each finished training round."""
        file = self.folder / "metrics.jsonl"
        lines = file.read_text("utf-8").splitlines(keepends=True) if file.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in events if event["event"] == "round"]

    @property
    def encoder(self) -> str:
        """The SHA-256 of what was learned."""
        return hashlib.sha256((self.folder / "encoder.safetensors").read_bytes()).hexdigest()

    def until_at_work(self, site: str, number: int) -> None:
        """Wait until the site has received what the round asks of it, and has not answered yet."""
        path, size = self._logs[site]
        received = re.compile(rf"received: run \d+, round {number}: train")

        def met() -> bool:
            assert self.command.process.poll() is None, self.command.said
            return received.search(path.read_text(encoding="utf-8")[size:]) is not None

        until(met, 400, lambda: f"{site}, round {number}: {self.command.said[-2000:]}")

    def ends(self, patience: float = 900.0) -> list[dict[str, Any]]:
        """Wait for the good end, with a report; the rounds."""
        said = self.command.ends(patience)
        assert (self.folder / "report.html").stat().st_size > 10_000, said
        assert (self.folder / "encoder.safetensors").exists()
        assert json.loads((self.folder / "run.json").read_text())["status"] == "finished"
        return self.rounds


@dataclass
class Federation:
    """The machines; the server and every site have been started."""

    network: Network
    server: Machine
    sites: dict[str, Machine]
    joined: dict[str, Typed]

    @classmethod
    def start(cls, network: Network, folder: Path) -> "Federation":
        """From nothing to sites that have joined."""
        server = Machine(network.add("coordinator"), folder / "coordinator")
        names = {NAME: server.host.address}
        server.run("covey", "server", "init", "fl", "--address", f"{NAME}:{PORT}")
        server.start("covey", "server", "start", "fl").until("ready")
        sites, joined = {}, {}
        for index, name in enumerate(SITES):
            site = sites[name] = Machine(network.add(name), folder / name)
            site.host.knows(names)
            draw_images(site.folder / "images", index * IMAGES, IMAGES)
            server.run("covey", "server", "invite", "fl", name)
            (server.folder / f"{name}.covey").rename(site.folder / f"{name}.covey")
            joined[name] = site.start(
                "covey", "client", "join", f"{name}.covey", "--data", "images"
            )
        for command in joined.values():
            command.until("joined")
        return cls(network, server, sites, joined)

    def online(self) -> set[str]:
        """The sites that the server says are online."""
        lines = self.server.run("covey", "server", "sites", "fl").splitlines()
        return {name for name in SITES for line in lines if name in line and "online" in line}

    def submit(self, *options: str) -> Run:
        """Start a run over both sites."""
        until(lambda: self.online() == set(SITES), 120, lambda: f"online: {self.online()}")
        runs = self.server.folder / "fl" / "runs"
        before = set(runs.iterdir())
        logs = {site: (self.log(site), len(self.log(site).read_text("utf-8"))) for site in SITES}
        command = self.server.start(
            "covey", "submit", "fedsimclr", "--server", "fl", *TINY, *options
        )
        until(lambda: set(runs.iterdir()) - before, PATIENCE, lambda: command.said)
        (folder,) = set(runs.iterdir()) - before
        return Run(command, folder, logs)

    def log(self, site: str, name: str = "connection") -> Path:
        """The log of a site's process."""
        return self.sites[site].folder / f"covey-site-{site}" / "logs" / f"{name}.log"
