"""What a coordinator and a site's operator do with a federation that is going on: list, stop,
revoke, leave; and a coordinator who means harm."""

import json
import time
from functools import partial

import pytest

from deploy.coordinator.folder import ServerFolder
from deploy.flower.bundle import write_bundle
from deploy.processes.supervisor import free_port
from deploy.site.folder import SiteFolder
from deploy.site.left import read_ledger
from tests.builders.records import events
from tests.deploy import helpers
from tests.deploy.helpers import processes
from tests.deploy.machines import Covey, write_images

LONG = ("--local-epochs", "20", "--rounds", "40")  # a round of many seconds
pytestmark = pytest.mark.timeout(900)
until = partial(helpers.until, patience=600.0)  # the machine may be very busy
EVIL = """from pathlib import Path
Path({mark!r}).write_text("!")
from client.app import app as installed
app = installed
"""


@pytest.fixture(scope="module")
def covey(tmp_path_factory):
    """A running server, `north` in front and `south` detached."""
    folder = tmp_path_factory.mktemp("commands")
    write_images(folder)
    with Covey(folder) as commands:
        address = f"127.0.0.1:{free_port()}"
        commands.run("server", "init", "server", "--address", address)
        for site in ("north", "south"):
            commands.run("server", "invite", "server", site, "--output", f"{site}.toml")
        commands.start("server", "server", "start", "server")
        commands.until("server", "ready")
        commands.start("north", "client", "join", "north.toml", "--data", "north.npz")
        join = ("client", "join", "south.toml", "--data", "south.npz", "--detach")
        commands.joined = commands.run(*join)
        commands.until("north", "joined")
        yield commands
        presence = SiteFolder(folder / "covey-site-south").presence()
        if presence:
            commands.run("client", "leave", "covey-site-south")
    assert processes(str(folder)) == {}


def server(covey):
    return ServerFolder(covey.folder / "server")


def submit(covey, name, *options):
    """Start a run in the background; its folder, when it has one."""
    before = set(server(covey).runs.iterdir())
    covey.start(name, "submit", "fedsimclr", "--server", "server", *options)
    until(lambda: set(server(covey).runs.iterdir()) - before)
    (run,) = set(server(covey).runs.iterdir()) - before
    return run


def told(covey, name):
    """The last message that a site was told to answer: what its connection has logged."""
    return (covey.folder / f"covey-site-{name}" / "logs" / "connection.log").read_text()


@pytest.mark.federation
def test_a_site_joins_in_the_background_and_says_how_it_is(covey):
    said = covey.joined
    assert "site: south" in said and "data: 300 images" in said
    assert "device: cpu" in said or "device: cuda" in said
    assert "versions: Covey " in said and ", as the server" in said
    assert "connection: 127.0.0.1:" in said and "joined; what leaves is noted in" in said
    assert "`covey client leave" in said
    status = covey.run("client", "status", "covey-site-south")
    assert "site: south" in status and "joined: since 20" in status
    assert "answers, and knows this site" in status and "left this machine: 0 answers" in status
    said = covey.run("client", "status", expect=2)
    assert "name the site's folder (here: covey-site-north, covey-site-south)" in said
    again = ("client", "join", "south.toml", "--data", "south.npz", "--detach")
    assert "has joined already" in covey.run(*again, expect=2)


@pytest.mark.federation
def test_a_run_is_listed_and_stopped_and_what_it_took_is_told(covey):
    run = submit(covey, "stopped", "--rounds", "40", "--local-epochs", "1")
    until(lambda: events(run, "round"))
    assert "running" in covey.run("runs", "--server", "server", "--json", "runs.json")
    (line,) = json.loads((covey.folder / "runs.json").read_text())
    assert (line["id"], line["recipe"], line["status"]) == (run.name, "fedsimclr", "running")
    assert line["rounds"] >= 1 and line["planned"] == 40
    said = covey.run("stop", run.name, "--server", "server")
    assert "stopped; `covey submit --server" in said and "goes on from the last round" in said
    assert covey.started["stopped"].wait(60) == 1
    assert "covey: the run was stopped; `covey submit --server" in covey.said("stopped")
    assert "stopped" in covey.run("runs", "--server", "server")
    assert "is not running" in covey.run("stop", run.name, "--server", "server", expect=2)
    assert "unknown run 'x'" in covey.run("stop", "x", "--server", "server", expect=2)

    table = covey.run("server", "sites", "server", "--json", "sites.json")
    assert "last seen" in table and "s ago" in table
    sites = {site["name"]: site for site in json.loads((covey.folder / "sites.json").read_text())}
    for name in ("north", "south"):
        site = sites[name]
        assert (site["status"], site["examples"]) == ("online", 300)
        assert site["rounds"] == len(events(run, "round"))
        sent = sum(entry["bytes"] for entry in read_ledger(covey.folder / f"covey-site-{name}"))
        assert 0.5 * sent < site["bytes"] < 4 * sent  # both ways
        assert abs(site["seen"] - time.time()) < 120


@pytest.mark.federation
def test_a_site_with_other_images_is_refused_at_both_ends_and_the_run_goes_on(covey):
    covey.run("server", "invite", "server", "west", "--output", "west.toml")
    covey.start("west", "client", "join", "west.toml", "--data", "north.npz", "--side", "16")
    covey.until("west", "joined")
    run = submit(covey, "differing", "--rounds", "40", "--local-epochs", "1", "--deadline", "600")
    why = "its images are 1×16×16, the federation's 1×8×8 (covey client join --side 8 scales them)"
    covey.until("differing", f"site west refused: {why}")
    covey.until("west", f"the server does not take this site into its run {run.name}: {why}")
    until(lambda: events(run, "round"))  # long before the deadline
    assert "started with 2 of 3 sites" in covey.said("differing")
    assert events(run, "round")[0]["answered"] == ["north", "south"]
    # a message is called the same in the logs of both sides (docs/coordinator/debugging.md)
    assert "round 1 train: north answered" in (run / "run.log").read_text()
    trainer = covey.folder / "covey-site-north" / "logs" / "trainer.log"
    assert f"run {run.name} round 1 train: answered with" in trainer.read_text()
    assert covey.interrupt("west") == 0
    covey.run("stop", run.name, "--server", "server")


@pytest.mark.federation
def test_a_site_runs_no_code_of_a_coordinator_who_means_harm(covey, tmp_path):
    mark = tmp_path / "owned"
    bundle = write_bundle(tmp_path / "bundle", {"recipe": "fedsimclr", "sites": "2"})
    stub = bundle / "covey_bundle" / "client_app.py"
    stub.write_text(EVIL.format(mark=str(mark)))
    answers = tmp_path / "answers"
    (bundle / "covey_bundle" / "server_app.py").write_text(SPEAKER.format(answers=str(answers)))
    control = server(covey).control(10.0)
    control.submit(bundle)
    for name in ("north", "south"):
        until(lambda name=name: "refused the bundle of run" in told(covey, name))
        assert "'covey_bundle/client_app.py' is not the one that Covey" in told(covey, name)
    covey.until("north", "refused the bundle of run")
    until(lambda: answers.exists() and len(answers.read_text().splitlines()) == 2)
    assert answers.read_text().count("runs no bundle but that of its own Covey") == 2
    assert not mark.exists()
    apps = (covey.folder / "covey-site-north" / "private" / "flower").rglob("client_app.py")
    assert not [path for path in apps if "owned" in path.read_text()]


# A ServerApp that asks every site something and writes down what it is told.
SPEAKER = """import time
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()

@app.main()
def main(grid, context):
    nodes = list(grid.get_node_ids())
    ids = grid.push_messages([Message(RecordDict(), node, "query") for node in nodes])
    waiting = set(ids)
    while waiting:
        for message in grid.pull_messages(waiting):
            waiting.discard(message.metadata.reply_to_message_id)
            with open({answers!r}, "a") as file:
                file.write((message.error.reason if message.has_error() else "none") + "\\n")
        time.sleep(0.2)
"""


@pytest.mark.federation
def test_a_site_revoked_in_mid_round_is_out_at_once_and_invited_anew_is_in_again(covey):
    run = submit(covey, "revoked", *LONG, "--local-epochs", "200", "--quorum", "0.5")
    before = told(covey, "north").count("received:")
    until(lambda: told(covey, "north").count("received:") >= before + 2)  # hello, train
    said = covey.run("server", "revoke", "server", "north")
    assert "the server refuses north from now on" in said
    assert covey.started["north"].wait(60) == 2
    last = covey.said("north").splitlines()[-1]
    assert last == (
        "covey: the server has revoked the site 'north': ask the coordinator for a new invitation"
    )
    until(lambda: events(run, "round"))
    (first, *_) = events(run, "round")
    assert first["answered"] == ["south"]
    assert "Unavailable" in first["refused"]["north"]  # Flower's word in place of an answer
    covey.run("stop", run.name, "--server", "server")

    names = {p.parent.name: p.name for p in (covey.folder / "server").rglob("north*.pub")}
    assert list(names) == ["revoked"]
    assert "revoked" in covey.run("server", "sites", "server")
    join = ("client", "join", "north.toml", "--data", "north.npz")
    assert "does not know the site 'north' (not invited, or revoked)" in covey.run(*join, expect=2)
    assert "unknown site 'north'" in covey.run("server", "revoke", "server", "north", expect=2)

    covey.run("server", "invite", "server", "north", "--output", "again.toml")
    assert (covey.folder / "again.toml").read_text() != (covey.folder / "north.toml").read_text()
    covey.start("north", "client", "join", "again.toml", "--data", "north.npz")
    covey.until("north", "joined")
    assert covey.interrupt("north") == 0


@pytest.mark.federation
def test_a_site_in_the_background_leaves_when_it_is_told_to(covey):
    assert "left: " in covey.run("client", "leave", "covey-site-south")
    said = covey.run("client", "status", "covey-site-south", expect=1)
    assert "joined: no" in said and "last answer: " in said
    said = covey.run("client", "leave", "covey-site-south", expect=2)
    assert "nobody has joined from" in said
    assert covey.started["server"].poll() is None
    assert covey.interrupt("server") == 0
