"""kill -9 of each process, while it is idle, training and sending (docs/reliability.md)."""

import time

import pytest

from tests.builders.records import events
from tests.faults.command import until
from tests.faults.federation import Federation, is_whole, lost

BACK = 15.0  # seconds in which a killed connection is in again, on a busy machine
MOMENTS = ("training", "sending")


def test_the_superlink_is_killed_while_idle(federation: Federation) -> None:
    federation.end_run()
    said = federation.server.said.count("is started again")
    federation.kill_server("deploy.flower.superlink")
    federation.server.says("is started again", said + 1)
    until(lambda: federation.online() == {"north", "south"})
    assert federation.submit(1).ends() == 0


def test_the_trainer_is_killed_while_idle(federation: Federation) -> None:
    federation.end_run()
    north = federation.sites["north"]
    ready = north.log("trainer").count(", ready")
    north.kill("client.resident")
    until(lambda: north.log("trainer").count(", ready") > ready)
    assert federation.submit(1).ends() == 0


def test_the_connection_is_killed_while_idle_and_is_in_again_in_seconds(
    federation: Federation,
) -> None:
    federation.end_run()
    north = federation.sites["north"]
    joined, killed = north.joined(), time.monotonic()
    north.kill("deploy.flower.connection")
    until(lambda: north.joined() > joined)
    assert time.monotonic() - killed < BACK
    assert federation.submit(1).ends() == 0
    (trained,) = events(federation.run_folder, "round")
    assert is_whole(trained)


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_trainer_is_killed_and_nothing_is_lost_while(
    federation: Federation, moment: str
) -> None:
    federation.running()
    north, done = federation.sites["north"], federation.rounds()
    {"training": north.is_training, "sending": north.has_answered}[moment]()
    north.kill("client.resident")
    assert lost(federation.rounds_since(done, whole=3), "north") == 0


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_connection_is_killed_and_is_in_again_in_seconds_while(
    federation: Federation, moment: str
) -> None:
    """What it was at work on is handed out again; the others lose nothing and do not wait."""
    federation.running()
    north, done = federation.sites["north"], federation.rounds()
    joined = north.joined()
    {"training": north.is_training, "sending": north.is_sending}[moment]()
    killed = time.monotonic()
    north.kill("deploy.flower.connection")
    until(lambda: north.joined() > joined)
    assert time.monotonic() - killed < BACK
    rounds = federation.rounds_since(done, whole=3)
    assert lost(rounds, "south") == lost(rounds, "north") == 0


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_superlink_is_killed_and_the_run_goes_on_while(
    federation: Federation, moment: str
) -> None:
    federation.running()
    north, done = federation.sites["north"], federation.rounds()
    {"training": north.is_training, "sending": north.is_sending}[moment]()
    federation.kill_server("deploy.flower.superlink")
    rounds = federation.rounds_since(done, whole=3)
    assert sum(bool(r["missing"] or r["refused"]) for r in rounds) <= 1


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_serverapp_is_killed_and_the_printed_command_goes_on_while(
    federation: Federation, moment: str
) -> None:
    federation.running()
    north = federation.sites["north"]
    {"training": north.is_training, "sending": north.is_sending}[moment]()
    done = federation.rounds()
    federation.kill_server("flwr-serverapp")
    assert federation.run_command.ends() != 0
    assert "the ServerApp was killed" in federation.run_command.said
    federation.resume()
    rounds = federation.rounds_since(done)
    assert rounds[0]["round"] == done + 1  # the round in flight is done again, no other
