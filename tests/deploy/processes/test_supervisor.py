"""What the supervisor starts, it restarts when asked to, and nothing of it outlives it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from common.utils.logs import keep_short
from deploy.processes import supervisor as supervisor_module
from deploy.processes.supervisor import Restart, Supervisor, environment, free_ports
from tests.deploy.helpers import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SOON = Restart(first=0.05, longest=0.2)
PATIENCE = 20.0
SLEEP = ["sleep", "300"]
# Does not end on SIGTERM, and has a child.
STUBBORN = (
    "import signal, subprocess, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "subprocess.Popen(['sleep', '300'])\n"
    "print('up', flush=True)\n"
    "time.sleep(300)\n"
)


def living(sessions):
    """The processes of these sessions that are not zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) in sessions and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def python(code):
    return [sys.executable, "-c", code]


@pytest.fixture
def supervisor(tmp_path):
    with Supervisor(tmp_path / "the logs", tmp_path / "empty") as supervisor:
        yield supervisor


def start(supervisor, name, command, restart=None):
    supervisor.start(name, command, dict(os.environ), restart)


def test_output_and_errors_go_to_the_log_and_the_last_line_is_at_hand(supervisor):
    code = "import sys; print('one', flush=True); print('\\033[91mtwo\\033[0m\\n', file=sys.stderr)"
    start(supervisor, "talker", python(code))
    until(lambda: not supervisor.running("talker"))
    assert supervisor.log("talker").read_text().split() == ["one", "\033[91mtwo\033[0m"]
    assert supervisor.last_line("talker") == "two"


def test_a_process_starts_in_the_empty_folder_with_nothing_to_read(supervisor, tmp_path):
    start(supervisor, "cat", python("import os, sys; print(os.getcwd(), [sys.stdin.read()])"))
    until(lambda: not supervisor.running("cat"))
    assert supervisor.last_line("cat") == f"{tmp_path / 'empty'} ['']"


def test_arguments_are_passed_as_they_are_without_a_shell(supervisor):
    start(supervisor, "echo", ["echo", "$HOME; `id`", "a  b"])
    until(lambda: not supervisor.running("echo"))
    assert supervisor.last_line("echo") == "$HOME; `id` a  b"


def test_a_program_that_is_not_there_is_named_in_the_log(supervisor):
    start(supervisor, "ghost", ["no-such-program"])
    until(lambda: supervisor.ends("ghost") == 1)
    assert "cannot start no-such-program" in supervisor.last_line("ghost")


def test_a_process_that_ends_is_started_again_with_a_fresh_command(supervisor):
    numbers = iter(range(100))
    start(supervisor, "again", lambda: ["echo", f"start {next(numbers)}"], SOON)
    until(lambda: supervisor.ends("again") >= 3)
    assert supervisor.log("again").read_text().startswith("start 0\nstart 1\nstart 2\n")


def test_a_process_that_is_killed_comes_back(supervisor):
    start(supervisor, "sleeper", SLEEP, SOON)
    first = supervisor.guardians()["sleeper"]
    until(lambda: len(living({first})) == 2)
    (sleeper,) = [pid for pid in living({first}) if pid != first]
    os.kill(sleeper, signal.SIGKILL)
    until(lambda: supervisor.guardians()["sleeper"] != first and supervisor.running("sleeper"))
    assert living({first}) == []


def test_without_restart_an_ended_process_stays_ended(supervisor):
    start(supervisor, "once", ["true"])
    until(lambda: supervisor.ends("once") == 1)
    time.sleep(0.5)
    assert supervisor.ends("once") == 1
    assert not supervisor.running("once")


def test_the_back_off_doubles_up_to_its_longest():
    restart = Restart(first=4, longest=20)
    assert [restart.delay(ends) for ends in range(1, 6)] == [4, 8, 16, 20, 20]


def test_what_an_ended_process_leaves_behind_is_ended_before_it_starts_again(supervisor):
    start(supervisor, "parent", python("import subprocess; subprocess.Popen(['sleep', '300'])"))
    guardian = supervisor.guardians()["parent"]
    until(lambda: not supervisor.running("parent"))
    assert living({guardian}) == []


def test_stop_ends_willing_processes_at_once_and_may_be_called_again(supervisor):
    for number in range(4):
        start(supervisor, f"sleeper {number}", SLEEP, SOON)
    sessions = set(supervisor.guardians().values())
    until(lambda: len(living(sessions)) == 8)
    before = time.monotonic()
    supervisor.stop()
    assert living(sessions) == []
    assert time.monotonic() - before < 2
    supervisor.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        start(supervisor, "late", SLEEP)


def test_stop_kills_what_will_not_end_and_its_children(supervisor):
    start(supervisor, "stubborn", python(STUBBORN))
    sessions = set(supervisor.guardians().values())
    until(lambda: supervisor.last_line("stubborn") == "up")
    assert len(living(sessions)) == 3
    supervisor.stop(grace=0.3)
    assert living(sessions) == []


def test_an_interrupt_in_the_middle_of_stop_leaves_nothing(supervisor):
    start(supervisor, "stubborn", python(STUBBORN))
    sessions = set(supervisor.guardians().values())
    until(lambda: supervisor.last_line("stubborn") == "up")
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        supervisor.stop(grace=30)
    assert living(sessions) == []


def test_nothing_is_left_when_the_supervisors_process_is_killed(tmp_path):
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from deploy.processes.supervisor import Supervisor\n"
        f"supervisor = Supervisor(Path({str(tmp_path)!r}), Path({str(tmp_path / 'empty')!r}))\n"
        "supervisor.start('sleeper', ['sleep', '300'], dict(os.environ))\n"
        f"supervisor.start('stubborn', [sys.executable, '-c', {STUBBORN!r}], dict(os.environ))\n"
        "while supervisor.last_line('stubborn') != 'up':\n"
        "    time.sleep(0.05)\n"
        "print(*supervisor.guardians().values(), flush=True)\n"
        "time.sleep(300)\n"
    )
    parent = subprocess.Popen(
        python(code), stdout=subprocess.PIPE, text=True, env=environment(tmp_path)
    )
    sessions = {int(number) for number in parent.stdout.readline().split()}
    assert len(living(sessions)) == 5
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not living(sessions))


def test_free_ports_differ_and_can_be_bound():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports[:3]:
        with socket.socket() as each:
            each.bind(("127.0.0.1", port))


def test_the_environment_keeps_flower_quiet_and_finds_its_programs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("NO_PROXY", "intranet")
    values = environment(tmp_path, threads=3)
    assert values["FLWR_HOME"] == str(tmp_path)
    assert values["FLWR_TELEMETRY_ENABLED"] == "0"
    assert values["OMP_NUM_THREADS"] == "3"
    assert values["NO_PROXY"] == "intranet,localhost,127.0.0.1"
    folders = [Path(folder) for folder in values["PATH"].split(os.pathsep)]
    assert any((folder / "flower-supernode").exists() for folder in folders)
    assert folders[-1] == Path("/nowhere")


def test_a_process_finds_our_code_from_any_folder(supervisor, tmp_path):
    code = "import common.utils.errors, deploy.processes.child; print('found')"
    supervisor.start("importer", python(code), environment(tmp_path))
    until(lambda: not supervisor.running("importer"))
    assert supervisor.last_line("importer") == "found"


def test_a_log_stays_short_while_its_process_writes_and_the_last_times_is_kept(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(supervisor_module, "LOGS", 0.1)
    monkeypatch.setattr(supervisor_module, "keep_short", lambda path: keep_short(path, 20_000))
    busy = python("import time\nwhile True: print('x' * 999, flush=True); time.sleep(0.001)")
    logs = tmp_path / "logs"
    with Supervisor(logs, tmp_path / "empty") as supervisor:
        supervisor.start("busy", busy, os.environ)
        until((logs / "busy.log.1").exists)
        until(lambda: supervisor.last_line("busy") == "x" * 999)  # it goes on
        assert (logs / "busy.log.1").stat().st_size == 20_000
    with Supervisor(logs, tmp_path / "empty") as supervisor:
        supervisor.start("busy", python("print('anew')"), os.environ)
        until(lambda: supervisor.last_line("busy") == "anew")
        assert (logs / "busy.log").read_text() == "anew\n"
        assert "x" * 999 in (logs / "busy.log.1").read_text()
