"""Machines of their own on one machine: network namespaces with addresses, cables and a switch.

A `Network` is a switch (a bridge in a namespace of its own) and hosts, each a namespace with one
cable to it. No interface is ever made in the machine's own namespace, and names hold the process id
and a random number, so that two networks never meet. Leaving the context ends every process that
lives in a namespace and removes all of them. Needs root and Debian's iproute2.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

WIRE = Path(__file__).with_name("wire.py")
SWITCH, CARD, SLOW_CARD = "switch", "eth0", "slow0"
PREFIX = "192.0.2"  # TEST-NET-1 (RFC 5737), in no real network
ETC = Path("/etc/netns")  # `ip netns exec` lays what is in it over the namespace's /etc
PATIENCE = 10.0


class NetworkError(RuntimeError):
    """`ip` or `tc` refused something."""


@dataclass(frozen=True)
class Slowness:
    """What a slow cable does in each direction: seconds of delay, share of frames lost, bit/s."""

    delay: float
    loss: float
    rate: float


def lacking() -> str:
    """What is needed for a network and not there: "" where nothing is."""
    if os.geteuid() != 0:
        return "needs root (network namespaces)"
    programs = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if programs:
        return f"needs {' and '.join(programs)} (Debian's iproute2)"
    try:
        with Network() as network:
            network.add("probe")
            return ""
    except NetworkError as error:
        return f"needs network namespaces, a bridge and veth pairs: {error}"


def command(*arguments: str) -> str:
    """The output of a program; `NetworkError` where it fails."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NetworkError(f"{' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


@dataclass
class Host:
    """A machine: the namespace `space`, `address`, and its cable, whose other end is the switch's
    interface `port`."""

    name: str
    space: str
    address: str
    port: str
    switch: str
    _wire: subprocess.Popen[str] | None = field(default=None, repr=False)
    _shaped: bool = False

    def start(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: IO[str] | int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """A process on this host; `ip` becomes it, so that signals go to it itself."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.space, *arguments],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def listening(self) -> list[str]:
        """ADDRESS:PORT of every TCP socket that listens here."""
        lines = command("ip", "netns", "exec", self.space, "ss", "-Hltn").splitlines()
        return [line.split()[3] for line in lines]

    def knows(self, names: Mapping[str, str]) -> None:
        """What this host's /etc/hosts says: name -> address."""
        folder = ETC / self.space
        folder.mkdir(parents=True, exist_ok=True)
        lines = {"localhost": "127.0.0.1"} | dict(names)
        text = "".join(f"{address}\t{name}\n" for name, address in lines.items())
        (folder / "hosts").write_text(text, encoding="ascii")

    def cut(self) -> None:
        """Pull the cable out at the switch."""
        command("ip", "-n", self.switch, "link", "set", self.port, "down")

    def heal(self) -> None:
        """Plug it in again, and make it as quick as it was."""
        command("ip", "-n", self.switch, "link", "set", self.port, "up")
        if self._shaped:
            for space, card in self._ends():
                command("tc", "-n", space, "qdisc", "del", "dev", card, "root")
            self._shaped = False
        if self._wire is not None:
            self._unplug_wire()

    def card_down(self) -> None:
        """Take the host's own interface down, as its operator would."""
        command("ip", "-n", self.space, "link", "set", CARD, "down")

    def card_up(self) -> None:
        """Take it up again."""
        command("ip", "-n", self.space, "link", "set", CARD, "up")

    def slow(self, slowness: Slowness) -> str:
        """Make the cable slow; by what: "netem", or where the kernel lacks it "wire", a cable that
        `wire.py` carries the frames through."""
        try:
            self._shape(slowness)
        except NetworkError as error:
            if "qdisc kind is unknown" not in str(error):
                raise
        else:
            self._shaped = True
            return "netem"
        self._plug_wire(slowness)
        return "wire"

    def _ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return (self.space, CARD), (self.switch, self.port)

    def _shape(self, slowness: Slowness) -> None:
        delay, loss = f"{slowness.delay * 1000:g}ms", f"{slowness.loss * 100:g}%"
        how = ("delay", delay, "loss", loss, "rate", f"{slowness.rate:.0f}bit")
        for space, card in self._ends():
            command("tc", "-n", space, "qdisc", "replace", "dev", card, "root", "netem", *how)

    def _plug_wire(self, slowness: Slowness) -> None:
        """A second card on a cable of its own takes the first one's MAC and address."""
        near = f"slow-{self.port}"
        how = [str(value) for value in (slowness.delay, slowness.loss, slowness.rate)]
        program = [sys.executable, str(WIRE), near, SLOW_CARD, *how]
        self._wire = subprocess.Popen(
            ["ip", "netns", "exec", self.switch, *program], stdout=subprocess.PIPE, text=True
        )
        assert self._wire.stdout is not None
        if not self._wire.stdout.readline():
            raise NetworkError("the slow cable cannot be made (TAP interfaces: /dev/net/tun)")
        command("ip", "-n", self.switch, "link", "set", near, "master", SWITCH, "up")
        command("ip", "-n", self.switch, "link", "set", SLOW_CARD, "netns", self.space)
        mac = command("ip", "netns", "exec", self.space, "cat", f"/sys/class/net/{CARD}/address")
        command("ip", "-n", self.space, "link", "set", CARD, "down")
        command("ip", "-n", self.space, "address", "flush", "dev", CARD)
        command("ip", "-n", self.space, "link", "set", SLOW_CARD, "address", mac.strip(), "up")
        self._give_address(SLOW_CARD)

    def _unplug_wire(self) -> None:
        assert self._wire is not None and self._wire.stdout is not None
        self._wire.terminate()  # both of its interfaces go with it
        self._wire.wait(PATIENCE)
        self._wire.stdout.close()
        self._wire = None
        command("ip", "-n", self.space, "link", "set", CARD, "up")
        self._give_address(CARD)

    def _give_address(self, card: str) -> None:
        command("ip", "-n", self.space, "address", "add", f"{self.address}/24", "dev", card)


class Network:
    """A switch and the hosts that were added to it."""

    def __init__(self) -> None:
        self._id = f"covey-{os.getpid()}-{secrets.token_hex(3)}"
        self.hosts: dict[str, Host] = {}
        self._spaces: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._switch = self._space("switch")
            command("ip", "-n", self._switch, "link", "add", SWITCH, "type", "bridge")
            command("ip", "-n", self._switch, "link", "set", SWITCH, "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def add(self, name: str) -> Host:
        """A new host, with the next address."""
        number = len(self.hosts) + 1
        space, port = self._space(name), f"port{number}"
        host = Host(name, space, f"{PREFIX}.{number}", port, self._switch)
        command(
            *("ip", "-n", self._switch, "link", "add", port, "type", "veth"),
            *("peer", "name", CARD, "netns", space),
        )
        command("ip", "-n", self._switch, "link", "set", port, "master", SWITCH, "up")
        host.card_up()
        host._give_address(CARD)
        host.knows({})
        self.hosts[name] = host
        return host

    def _space(self, name: str) -> str:
        space = f"{self._id}-{name}"
        command("ip", "netns", "add", space)
        self._spaces.append(space)
        command("ip", "-n", space, "link", "set", "lo", "up")
        return space

    def processes(self) -> dict[int, str]:
        """Process id -> namespace of every process that lives on a host or the switch."""
        return {
            int(pid): space
            for space in self._spaces
            for pid in command("ip", "netns", "pids", space).split()
        }

    def _remove(self) -> None:
        end = time.monotonic() + PATIENCE
        with contextlib.suppress(NetworkError):
            while (pids := self.processes()) and time.monotonic() < end:
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
        for space in self._spaces:
            with contextlib.suppress(NetworkError):
                command("ip", "netns", "delete", space)
            shutil.rmtree(ETC / space, ignore_errors=True)
        self._spaces.clear()
