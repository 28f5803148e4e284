"""kill -9 of each process, while it is idle, training and sending (docs/reliability.md)."""

import pytest

from tests.faults.command import until
from tests.faults.federation import Federation, lost

NOTICED = 60.0  # seconds until Flower notices that a ClientApp is gone
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
    ready = north.log("trainer").count("listening")
    north.kill("client.resident")
    until(lambda: north.log("trainer").count("listening") > ready)
    assert federation.submit(1).ends() == 0


def test_the_supernode_is_killed_while_idle_and_a_run_does_not_wait_for_it(
    federation: Federation,
) -> None:
    """The run starts without the site, and has it again as soon as it is let in."""
    federation.end_run()
    north = federation.sites["north"]
    joined = north.joined()
    north.kill("deploy.flower.supernode")
    federation.running()
    until(lambda: north.joined() > joined)
    federation.rounds_since(federation.rounds())


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
def test_the_clientapp_is_killed_and_its_answer_is_lost_while(
    federation: Federation, moment: str
) -> None:
    """The site's SuperNode notices within a minute, and says so; the deadline is longer, or the
    rounds of that minute would go on without the site."""
    federation.end_run()
    federation.run_command = federation.submit(500, deadline=3 * NOTICED)
    federation.running()
    north, done = federation.sites["north"], federation.rounds()
    {"training": north.is_training, "sending": north.has_answered}[moment]()
    north.kill("flwr-clientapp")
    rounds = federation.rounds_since(done, whole=3)
    federation.end_run()
    assert lost(rounds, "north") <= 1 and lost(rounds, "south") == 0
    if lost(rounds, "north"):
        assert any("north" in text for text in federation.warnings())


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_supernode_is_killed_and_is_back_by_itself_while(
    federation: Federation, moment: str
) -> None:
    """The others go on, and do not wait for it in the rounds that it is away."""
    federation.running()
    north, done = federation.sites["north"], federation.rounds()
    joined = north.joined()
    {"training": north.is_training, "sending": north.is_sending}[moment]()
    north.kill("deploy.flower.supernode")
    until(lambda: north.joined() > joined)
    rounds = federation.rounds_since(done)
    assert lost(rounds, "south") == 0
    assert sum(event["seconds"]["total"] > federation.deadline for event in rounds) <= 1


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
