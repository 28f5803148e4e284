"""The network itself: its cables do what the other tests rely on, and nothing of it stays."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.network import ETC, Host, Network, Slowness, command

ECHO = """
import socket
with socket.create_server(("", 7)) as server:
    print("ready", flush=True)
    while True:
        peer, _ = server.accept()
        with peer:
            while peer.recv(65536):
                pass
            peer.sendall(b"0")
"""
SEND = """
import socket, sys, time
started = time.monotonic()
with socket.create_connection((sys.argv[1], 7), timeout=float(sys.argv[3])) as peer:
    peer.sendall(bytes(int(sys.argv[2])))
    peer.shutdown(socket.SHUT_WR)
    assert peer.recv(1)
print(time.monotonic() - started)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def echo(network: Network, tmp_path: Path) -> Host:
    host = network.add("echo")
    started = host.start([sys.executable, "-c", ECHO], tmp_path, os.environ)
    assert started.stdout is not None and started.stdout.readline() == "ready\n"
    return host


def send(host: Host, to: str, size: int = 1, patience: float = 20.0) -> float | None:
    """Seconds until `to` has got `size` bytes and said so; None where nobody answers."""
    arguments = [sys.executable, "-c", SEND, to, str(size), str(patience)]
    started = host.start(arguments, Path("/"), os.environ)
    output, _ = started.communicate(timeout=60)
    return float(output) if started.returncode == 0 else None


def test_hosts_reach_each_other_by_name_until_the_cable_is_cut_and_again_when_it_is_healed(
    network: Network, echo: Host
) -> None:
    host = network.add("other")
    host.knows({"echo.example.org": echo.address})
    assert send(host, "echo.example.org") is not None
    for cut, heal in ((host.cut, host.heal), (echo.card_down, echo.card_up)):
        cut()
        assert send(host, echo.address, patience=1.0) is None
        heal()
        assert send(host, echo.address) is not None


def test_a_slow_cable_is_late_and_narrow_until_it_is_healed(network: Network, echo: Host) -> None:
    host = network.add("other")
    kilobytes = 50
    quick = send(host, echo.address, 1000 * kilobytes)
    host.slow(Slowness(delay=0.1, loss=0.0, rate=1e6))
    late, narrow = send(host, echo.address), send(host, echo.address, 1000 * kilobytes)
    assert quick is not None and late is not None and narrow is not None
    assert quick < 0.35
    assert 0.4 < late < 1.0  # two ways for the connection, two for the bytes and the answer
    assert 0.4 + 8e-3 * kilobytes < narrow < 4.0
    host.heal()
    assert (again := send(host, echo.address)) is not None and again < 0.35


def test_nothing_of_a_network_is_left_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Network() as network:
        host = network.add("one")
        host.slow(Slowness(delay=0.1, loss=0.0, rate=1e6))
        sleeper = host.start(["sleep", "600"], tmp_path, os.environ)
        while sleeper.pid not in network.processes():
            time.sleep(0.01)
        assert (ETC / host.space).exists()
        assert host.space in command("ip", "netns", "list")
        raise ZeroDivisionError
    assert sleeper.wait(5) != 0
    assert host.space not in command("ip", "netns", "list")
    assert not (ETC / host.space).exists()
    assert host.space not in subprocess.check_output(["ps", "axww"], text=True)
