"""Cut cables, sleeping machines, sites that come and go, a server without power
(docs/reliability.md). The same with real interfaces: `make hosts-test`."""

import signal
import time

import pytest

from tests.faults.command import until
from tests.faults.federation import Federation, is_whole, lost


def wait(seconds: float) -> None:
    """As long as a cable is out: the one thing here that no event tells of."""
    time.sleep(seconds)


@pytest.mark.parametrize("moment", ["training", "sending"])
def test_the_cable_is_out_for_10_s_and_the_run_goes_on_while(
    federation: Federation, moment: str
) -> None:
    federation.running()
    north, done = federation.sites["north"], federation.rounds()
    {"training": north.is_training, "sending": north.is_sending}[moment]()
    north.cable.pull()
    wait(10)
    north.cable.plug()
    rounds = federation.rounds_since(done, whole=3)
    assert lost(rounds, "north") <= 1 and lost(rounds, "south") == 0


def is_waited_for_once(federation: Federation, done: int, site: str) -> None:
    """One deadline is spent on the site that is away, the rounds after it are done without it, and
    when it is back it is in every round again."""
    rounds = federation.rounds_since(done, whole=3)
    late = [r for r in rounds if r["seconds"]["total"] >= federation.deadline]
    assert len(late) <= 1
    assert lost(rounds, site) >= 1
    assert [site in r["answered"] for r in rounds[-3:]] == [True] * 3


def test_the_cable_is_out_for_longer_than_the_deadline(federation: Federation) -> None:
    federation.running()
    north, done = federation.sites["north"], federation.rounds()
    north.is_training()
    north.cable.pull()
    until(lambda: federation.rounds() > done + 2)  # one at the deadline, one without the site
    north.cable.plug()
    is_waited_for_once(federation, done, "north")


def test_a_site_that_sleeps_past_the_deadline_does_not_stay_a_round_behind(
    federation: Federation,
) -> None:
    federation.running()
    south, done = federation.sites["south"], federation.rounds()
    south.is_training()
    south.signal_all(signal.SIGSTOP)
    try:
        until(lambda: federation.rounds() > done + 2)
    finally:
        south.signal_all(signal.SIGCONT)
    is_waited_for_once(federation, done, "south")


def test_all_sites_are_gone_and_back(federation: Federation) -> None:
    """Killed with all their processes, and started again as their operators would."""
    federation.running()
    done = federation.rounds()
    for site in federation.sites.values():
        site.command.process.kill()
        site.command.process.wait()
    warned = federation.warnings()
    until(lambda: any("waiting" in text for text in federation.warnings()[len(warned) :]))
    for site in federation.sites.values():
        site.command = site.join()
    federation.rounds_since(done)


def test_a_site_joins_and_leaves_in_mid_run(federation: Federation) -> None:
    federation.running()
    east = federation.join("east")
    until(lambda: "east" in last_answered(federation))
    east.command.end()
    del federation.sites["east"]
    done = federation.rounds()
    until(lambda: federation.rounds() > done + 2)
    rounds = federation.since(done)
    assert all({"north", "south"} <= set(r["answered"]) for r in rounds)
    assert rounds[-1]["seconds"]["total"] < federation.deadline
    federation.end_run()  # the rows after this one want every site in a round


def last_answered(federation: Federation) -> list[str]:
    return list(federation.since(0)[-1]["answered"])


def test_the_servers_machine_loses_its_power(federation: Federation) -> None:
    """Every process of it is killed; started again, the sites come back by themselves, and
    `covey submit --resume` goes on."""
    run = federation.running()
    done = federation.rounds()
    federation.sites["north"].is_sending()
    federation.cut_its_power()
    done = max(done, federation.rounds())
    federation.server = federation.start_server()
    until(lambda: federation.online() >= {"north", "south"})
    federation.run_command = federation.start("submit", "--server", "server", "--resume", str(run))
    rounds = federation.rounds_since(done)
    assert is_whole(rounds[-1]) and rounds[0]["round"] == done + 1
