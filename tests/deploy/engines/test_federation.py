"""A federation of real processes: the sites that were let in answer, others are refused, and
nothing is left."""

import itertools
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from common.utils.errors import UserError
from deploy.engines.federation import LocalFederation, SiteSpec
from deploy.flower import commands as flower
from deploy.flower.bundle import write_bundle
from deploy.identity.certificates import make_site_key
from deploy.processes.supervisor import LOOPBACK, environment, free_port
from tests.deploy.helpers import until

PATIENCE = 60.0
WORDS = "path with spaces/and 'both' \"quotes\" \\ = #"
TRAINER = "import time; print('a trainer, ready', flush=True); time.sleep(300)"


def processes(sessions):
    """Processes of these sessions that are not zombies: what `ps` would show of a federation."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if int(fields[3]) in sessions and fields[0] != "Z":
            found.append(f"{entry.name} {command}")
    return found


@pytest.fixture
def silent_port(monkeypatch):
    """The first port that a federation finds free is taken, by one who never answers, before it can
    be bound."""
    with socket.create_server((LOOPBACK, 0)) as stranger:
        taken = stranger.getsockname()[1]
        ports = itertools.chain([taken], iter(free_port, None))
        monkeypatch.setattr("deploy.flower.server_node.free_port", lambda: next(ports))
        yield taken


@pytest.mark.federation
def test_two_sites_answer_a_stranger_is_refused_and_nothing_is_left(tmp_path, silent_port):
    state, logs, out = tmp_path / "the state", tmp_path / "the logs", tmp_path / "out.json"
    trainer = (sys.executable, "-c", TRAINER)
    sites = [
        SiteSpec("north", trainer, stock=True, node_config={"words": WORDS}),
        SiteSpec("south 2", stock=True, node_config={"words": "plain"}),
    ]
    apps = os.pathsep.join([str(Path(__file__).parents[1] / "echo"), str(Path.cwd())])
    extra = {"PYTHONPATH": apps, "HOME": "/nonexistent"}
    said = []
    with LocalFederation(state, logs, threads=1, extra=extra) as federation:
        federation.start(sites, said.append)
        assert "ready" in (logs / "north-trainer.log").read_text()
        assert federation.address != f"{LOOPBACK}:{silent_port}"
        assert sorted(text.split(" is online")[0] for text in said[-2:]) == ["north", "south 2"]

        run = federation.submit(
            write_bundle(
                tmp_path / "bundle",
                {"out": str(out), "text": "hello"},
                server="echo_server",
                client="echo_client",
            )
        )
        key = make_site_key(tmp_path / "keys", "stranger")
        config = flower.write_node_config(tmp_path / "node.toml", {})
        command = flower.supernode_command(
            federation.address,
            federation.flwr_home.parent / "certificates" / "ca.crt",
            key.private,
            port=free_port(),
            node_config=config,
        )
        supervisor = federation.supervisor
        supervisor.start("stranger", command, environment(tmp_path / "flwr"))

        until(lambda: supervisor.ends("stranger") == 1)
        assert "Failed to activate" in supervisor.log("stranger").read_text()
        until(out.exists)
        assert json.loads(out.read_text()) == {
            "north": {"text": "hello", "node": WORDS},
            "south 2": {"text": "hello", "node": "plain"},
        }
        until(lambda: federation.status(run)[0] == "finished:completed")
        with pytest.raises(UserError, match="already finished"):
            federation.stop_run(run)
        with pytest.raises(UserError, match="Run ID not found"):
            federation.status(12345)
        sessions = set(supervisor.guardians().values())
        assert any("superlink" in line for line in processes(sessions))
    assert processes(sessions) == []
    assert list(state.iterdir()) == []
    assert {path.name for path in logs.iterdir()} == {
        "superlink.log",
        "superexec.log",
        "north-supernode.log",
        "north-superexec.log",
        "north-trainer.log",
        "south 2-supernode.log",
        "south 2-superexec.log",
        "stranger.log",
    }


@pytest.mark.federation
def test_a_trainer_that_cannot_start_is_told_in_one_line_with_its_log(tmp_path):
    failing = (sys.executable, "-c", "import sys; sys.exit('covey: unknown data set')")
    with LocalFederation(tmp_path / "state", tmp_path / "logs") as federation:
        with pytest.raises(UserError) as failure:
            federation.start([SiteSpec("a", failing)], lambda _: None)
        log = tmp_path / "logs" / "a-trainer.log"
    assert str(failure.value) == (
        f"a-trainer ended while it was starting: covey: unknown data set (log: {log})"
    )


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], "at least one site"),
        (["a", "a"], "two sites are called 'a'"),
        (["../a"], "site name '../a'"),
    ],
)
def test_impossible_sites_are_refused_before_anything_starts(tmp_path, names, complaint):
    with LocalFederation(tmp_path / "state", tmp_path / "logs") as federation:
        with pytest.raises(UserError, match=complaint):
            federation.start([SiteSpec(name) for name in names], lambda _: None)
        assert federation.supervisor.guardians() == {}


def test_the_private_state_is_the_owners_alone_and_goes_with_the_federation(tmp_path):
    with LocalFederation(tmp_path / "state", tmp_path / "logs"):
        (inner,) = (tmp_path / "state").iterdir()
        assert inner.stat().st_mode & 0o777 == 0o700
    assert not inner.exists()
