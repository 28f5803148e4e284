"""A server and its sites as on separate machines, each site behind a cable of its own, and a run
that goes on and on: what the rows of docs/reliability.md happen to."""

import os
import re
import shlex
import signal
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from deploy.coordinator.folder import ServerFolder
from deploy.flower.control import UnreachableError
from deploy.flower.lines import JOINED
from deploy.identity.invitation import Invitation
from deploy.processes.supervisor import free_port
from tests.builders.records import events
from tests.deploy.helpers import find, processes, rounds_begun
from tests.faults.cable import LOOPBACK, Cable
from tests.faults.command import PATIENCE, Command, until

IMAGES = 100  # at each site
SENDING = re.compile("sending: run .*: train")
WAY_ON = re.compile(r"`covey (submit --server .*? --resume .*?)` goes on")
# Of a site's training: BYOL would remember; a replay of what happened needs sites that do not.
RECIPE = "fedsimclr"
OPTIONS = {"local-epochs": 4, "batch-size": 32, "clusters": 10}
SHORTEST_DEADLINE = 30.0
SLOWEST = 4.0  # times what a round takes: the deadline


class Site:
    """A site that has joined over its cable."""

    def __init__(self, federation: "Federation", name: str) -> None:
        self.name = name
        self.federation = federation
        self.cable = Cable(federation.port)
        self.folder = federation.home / f"covey-site-{name}"
        path = federation.invite(name)
        mine = Invitation.read(path).model_copy(update={"address": f"{LOOPBACK}:{self.cable.port}"})
        self.invitation = path.with_suffix(".mine")
        mine.write(self.invitation)
        self.data = federation.images(name)
        self.command = self.join()

    def join(self, *more: str) -> Command:
        arguments = ["client", "join", str(self.invitation), "--data", str(self.data), *more]
        return Command(self.federation.home, self.name, arguments, [])

    def log(self, name: str) -> str:
        path = self.folder / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def pid(self, program: str) -> int:
        """Of the one process of this site that runs `program`."""
        found: list[int] = []
        until(lambda: found.extend(find(program, str(self.folder))) or found)
        return found[0]

    def kill(self, program: str) -> None:
        os.kill(self.pid(program), signal.SIGKILL)

    def signal_all(self, number: signal.Signals) -> None:
        """To every process of the site, as when its machine goes to sleep and wakes."""
        for pid in [*processes(str(self.folder)), self.command.process.pid]:
            os.kill(pid, number)

    def trained(self) -> int:
        """How many answers of training have left."""
        path = self.folder / "left.jsonl"
        return path.read_text().count('"kind": "train"') if path.exists() else 0

    def is_training(self) -> None:
        """Return while its trainer is at work on a round that has just begun."""
        begun = rounds_begun(self.log("trainer"))
        until(lambda: rounds_begun(self.log("trainer")) > begun)

    def is_sending(self) -> None:
        """Return while its connection sends the answer of a round."""
        sent = len(SENDING.findall(self.log("connection")))
        until(lambda: len(SENDING.findall(self.log("connection"))) > sent)

    def has_answered(self) -> None:
        """Return when its trainer has just handed an answer over."""
        trained = self.trained()
        until(lambda: self.trained() > trained)

    def joined(self) -> int:
        """How often the server has let its connection in."""
        return self.log("connection").count(JOINED)


class Federation:
    """One server, two sites or more, and one run after the other if need be."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.folder = ServerFolder(home / "server")
        self.sites: dict[str, Site] = {}
        self.deadline = SHORTEST_DEADLINE
        self.run_folder: Path | None = None
        self.run_command: Command | None = None
        self._commands: list[Command] = []
        self._number = 0
        self.covey("server", "init", "server", "--address", f"{LOOPBACK}:{self.port}")
        self.server = self.start_server()

    def covey(self, *arguments: str, expect: int = 0, prefix: list[str] | None = None) -> str:
        """What the command says."""
        command = self.start(*arguments, prefix=prefix)
        assert command.ends() == expect, command.said
        return command.said

    def start(self, *arguments: str, prefix: list[str] | None = None) -> Command:
        self._number += 1
        command = Command(
            self.home, f"{self._number}-{arguments[0]}", list(arguments), prefix or []
        )
        self._commands.append(command)
        return command

    def start_server(self) -> Command:
        server = self.start("server", "start", "server")
        server.says("ready")
        return server

    def invite(self, name: str) -> Path:
        path = self.home / f"{name}.covey"
        self.covey("server", "invite", "server", name, "--output", str(path))
        return path

    def images(self, name: str) -> Path:
        """Some digits of the site's own, as an .npz."""
        digits = load_digits()
        images = (digits.images * (255 / 16)).round().astype(np.uint8)
        start = IMAGES * (sum(map(ord, name)) % (len(images) // IMAGES))
        path = self.home / f"{name}.npz"
        part = slice(start, start + IMAGES)
        np.savez(path, images=images[part], labels=digits.target[part])
        return path

    def join(self, name: str) -> Site:
        self.sites[name] = Site(self, name)
        self.sites[name].command.says("joined; what leaves")
        return self.sites[name]

    def submit(self, rounds: int, *more: str, deadline: float = 0.0) -> Command:
        """Start a run over the sites that are online; with a deadline of its own, if it needs."""
        options = {**OPTIONS, "rounds": rounds, "deadline": f"{deadline or self.deadline:g}"}
        arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        before = set(self.folder.runs.iterdir())
        command = self.start("submit", RECIPE, "--server", "server", *arguments, *more)
        command.says("run folder")
        made = set(self.folder.runs.iterdir()) - before
        self.run_folder = made.pop() if made else Path(more[more.index("--run-folder") + 1])
        return command

    def calibrate(self) -> None:
        """A run of one round: it says how fast this machine is now, and so the deadline."""
        self.deadline = PATIENCE
        first = self.submit(1)
        assert first.ends() == 0, first.said
        assert self.run_folder is not None
        (trained,) = events(self.run_folder, "round")
        took = max(trained["seconds"]["total"], SHORTEST_DEADLINE / SLOWEST)
        self.deadline = round(SLOWEST * took)

    def running(self) -> Path:
        """The folder of a run that is going on, and has done a round."""
        if self.run_command is None or self.run_command.process.poll() is not None:
            self.run_command = self.submit(500)
        until(lambda: self.rounds() > 0)
        assert self.run_folder is not None
        return self.run_folder

    def end_run(self) -> None:
        """Idle from here on: nothing is asked of anyone."""
        if self.run_command is not None:
            self.run_command.end()

    def resume(self) -> None:
        """The command that the ended run has printed, as it is printed."""
        assert self.run_command is not None
        printed = WAY_ON.findall(self.run_command.said)
        assert printed, self.run_command.said
        self.run_command = self.start(*shlex.split(printed[-1]))

    def online(self) -> set[str]:
        """The sites that the server counts as there; none while it does not answer."""
        control = self.folder.control()
        try:
            known = control.sites() if control else {}
        except UnreachableError:
            return set()
        return {name for name, status in known.items() if status == "online"}

    def rounds(self) -> int:
        """Rounds that the run has done."""
        return len(events(self.run_folder, "round")) if self.run_folder else 0

    def rounds_since(self, done: int, whole: int = 2) -> list[dict]:
        """Wait for `whole` rounds in a row with every site; all rounds after the first `done`."""

        def enough() -> bool:
            self._check_running()
            since = self.since(done)
            return len(since) >= whole and all(is_whole(r) for r in since[-whole:])

        until(enough)
        return self.since(done)

    def since(self, done: int) -> list[dict]:
        """The rounds after the first `done`, as far as they are there."""
        return events(self.run_folder, "round")[done:] if self.run_folder else []

    def warnings(self) -> list[str]:
        assert self.run_folder is not None
        return [event["text"] for event in events(self.run_folder, "warning")]

    def kill_server(self, program: str) -> None:
        (pid,) = find(program, str(self.folder.path))
        os.kill(pid, signal.SIGKILL)

    def cut_its_power(self) -> None:
        """Kill every process of the server's machine."""
        mine = set(processes(str(self.folder.flower))) | {self.server.process.pid}
        assert self.run_command is not None
        for pid in mine | {self.run_command.process.pid}:
            os.kill(pid, signal.SIGKILL)
        self.server.process.wait()
        self.run_command.process.wait()

    def _check_running(self) -> None:
        assert self.run_command is not None
        assert self.run_command.process.poll() is None, self.run_command.said

    def stop(self) -> None:
        for site in self.sites.values():
            site.cable.plug()
            site.command.end()
        for command in reversed(self._commands):
            command.end()


def is_whole(event: dict) -> bool:
    """Whether every site is in a round."""
    return not event["missing"] and not event["refused"]


def lost(rounds: list[dict], site: str) -> int:
    """Of how many of these rounds the site is not a part."""
    return sum(site not in event["answered"] for event in rounds)
