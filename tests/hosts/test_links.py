"""A server and two sites on hosts of their own, whose cables are cut, slowed and healed."""

import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.helpers import until
from tests.hosts.federation import PORT, SITES, Federation, Run
from tests.hosts.network import Host, Network, Slowness

ROUNDS = ("--rounds", "3")
SHORT = 10.0  # seconds
RETRIES = 40.0  # seconds of rounds in which a connection that was cut for long tries again: TCP
# waits twice as long each time
SLOW = Slowness(delay=0.1, loss=0.01, rate=2e6)  # 200 ms there and back, 1% lost, 2 Mbit/s
OPEN = """
import socket, sys
for port in range(1, 65536):
    with socket.socket() as probe:
        probe.settimeout(2)
        if probe.connect_ex((sys.argv[1], port)) == 0:
            print(port)
"""

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Network() as network:
        yield Federation.start(network, tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def undisturbed(federation: Federation) -> Run:
    """A run during which nothing happens to any cable."""
    run = federation.submit(*ROUNDS)
    run.ends()
    return run


@pytest.fixture
def north(federation: Federation) -> Iterator[Host]:
    """The host of a site, with its cable in order again at the end."""
    host = federation.sites["north"].host
    yield host
    host.heal()


def answers(run: Run) -> dict[int, list[str]]:
    """round -> the sites that answered."""
    return {event["round"]: event["answered"] for event in run.rounds}


def open_ports(to: Host, at: Host) -> set[int]:
    """The TCP ports on which `to` answers a program on `at`."""
    program = at.start([sys.executable, "-c", OPEN, to.address], Path("/"), os.environ)
    output, _ = program.communicate(timeout=300)
    assert program.returncode == 0, output
    return {int(port) for port in output.split()}


def test_a_server_and_two_sites_on_three_hosts_come_to_a_report(undisturbed: Run) -> None:
    assert answers(undisturbed) == {number: list(SITES) for number in (1, 2, 3)}


def test_only_the_front_of_the_server_and_nothing_of_a_site_answers_another_host(
    federation: Federation,
) -> None:
    server, site = federation.server.host, federation.sites["north"].host
    assert open_ports(server, at=site) == {PORT}
    assert open_ports(site, at=server) == set()
    assert len(server.listening()) >= 2  # the SuperLink, too, on loopback
    assert site.listening() == []  # not even on loopback


def test_a_link_cut_for_10_s_in_mid_round_costs_at_most_that_site_and_round(
    federation: Federation, undisturbed: Run, north: Host
) -> None:
    run = federation.submit(*ROUNDS)
    run.until_at_work("north", 2)
    north.cut()
    time.sleep(SHORT)
    north.heal()
    run.ends()
    answered = answers(run)
    assert list(answered) == [1, 2, 3]
    assert all("south" in sites for sites in answered.values())
    assert answered[1] == answered[3] == list(SITES)
    if "north" in answered[2]:
        assert run.encoder == undisturbed.encoder


def test_a_link_cut_past_the_deadline_leaves_the_round_to_the_others_until_it_is_healed(
    federation: Federation, undisturbed: Run, north: Host
) -> None:
    paces = [event["seconds"]["total"] for event in undisturbed.rounds]
    deadline = round(max(SHORT, 2 * max(paces)))
    rounds = 4 + math.ceil(RETRIES / min(paces))
    run = federation.submit("--rounds", str(rounds), "--deadline", str(deadline))
    run.until_at_work("north", 2)
    north.cut()
    until(lambda: len(run.rounds) >= 2, 3 * deadline + 60, lambda: "the round has not ended")
    north.heal()
    run.ends()
    answered = answers(run)
    assert list(answered) == list(range(1, rounds + 1))
    assert all("south" in sites for sites in answered.values())
    assert answered[2] == ["south"]
    assert answered[rounds] == list(SITES)


def test_over_a_slow_link_a_run_ends_with_the_same_encoder_only_later(
    federation: Federation, undisturbed: Run, north: Host
) -> None:
    north.slow(SLOW)
    run = federation.submit(*ROUNDS)
    run.ends()
    assert answers(run) == answers(undisturbed)
    assert run.encoder == undisturbed.encoder
    for event in run.rounds:  # both ways: half of the bytes are this site's
        assert (
            event["seconds"]["total"]
            > 8 * (event["bytes_down"] + event["bytes_up"]) / 2 / SLOW.rate
        )


def test_all_sites_come_back_when_the_link_of_the_server_was_down(
    federation: Federation, undisturbed: Run
) -> None:
    run = federation.submit(*ROUNDS)
    run.until_at_work("south", 2)
    federation.server.host.card_down()
    time.sleep(SHORT)
    federation.server.host.card_up()
    run.ends()
    assert answers(run) == answers(undisturbed)
    assert run.encoder == undisturbed.encoder
    assert federation.online() == set(SITES)
