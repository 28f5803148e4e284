"""A connection that was killed is in again in seconds; a second machine with the same key is not
let in beside it, even with a copy of its folder."""

import os
import shutil
import signal
import sys
import time

import pytest

from deploy.engines.federation import LocalFederation, SiteSpec
from deploy.flower import commands
from deploy.flower.lines import COUNTED, JOINED
from deploy.processes.supervisor import environment
from tests.deploy.helpers import find, until

TRAINER = """
import sys
from client.resident.service import serve_inherited
print("a trainer, ready", flush=True)
serve_inherited(int(sys.argv[-1]), lambda record: record)
"""
BACK = 15.0  # seconds, on a busy machine; a SuperLink counts a killed process for 60


@pytest.mark.federation
def test_a_killed_site_is_back_in_seconds_and_a_second_machine_is_not_let_in(tmp_path):
    command = (sys.executable, "-c", TRAINER)
    with LocalFederation(tmp_path / "state", tmp_path / "logs") as federation:
        federation.start([SiteSpec("north", command)], lambda _text: None)
        supervisor = federation.supervisor
        log = supervisor.log("north-connection")
        folder = federation.flwr_home.parent

        (connection,) = find("deploy.flower.connection", str(tmp_path))
        (trainer,) = find("serve_inherited", str(tmp_path))
        killed = time.monotonic()
        os.kill(connection, signal.SIGKILL)
        until(lambda: log.read_text().count(JOINED) == 2, BACK)
        assert time.monotonic() - killed < BACK
        until(lambda: trainer not in find("serve_inherited", str(tmp_path)))
        assert federation._control().sites() == {"north": "online"}

        def other(name: str, copied: bool) -> None:
            """A machine with the same key."""
            place = folder / name
            if copied:
                shutil.copytree(folder / "sites" / "north", place)
            else:
                place.mkdir(mode=0o700)
            started = commands.connection_command(
                folder / "address",
                folder / "certificates" / "ca.crt",
                folder / "keys" / "north",
                folder=place,
                trainer=command,
                trainer_log=tmp_path / "logs" / f"{name}-trainer.log",
            )
            supervisor.start(name, started, environment(place))

        for name, copied in (("stranger", False), ("copy", True)):
            other(name, copied)
            until(
                lambda name=name: COUNTED in supervisor.log(name).read_text(),
                60.0,
                lambda name=name: supervisor.log(name).read_text(),
            )
            assert JOINED not in supervisor.log(name).read_text()
        assert log.read_text().count(JOINED) == 2 and supervisor.ends("north-connection") == 1


@pytest.mark.federation
def test_who_is_asked_to_leave_says_goodbye_and_another_is_let_in_at_once(tmp_path):
    command = (sys.executable, "-c", TRAINER)
    with LocalFederation(tmp_path / "state", tmp_path / "logs") as federation:
        federation.start([SiteSpec("north", command)], lambda _text: None)
        (connection,) = find("deploy.flower.connection", str(tmp_path))
        os.kill(connection, signal.SIGTERM)
        until(lambda: federation._control().sites() == {"north": "offline"}, BACK)
        log = federation.supervisor.log("north-connection")
        until(lambda: log.read_text().count(JOINED) == 2, BACK)
        assert COUNTED not in log.read_text()
