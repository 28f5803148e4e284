"""Processes that are started, watched, restarted and ended together.

Knows nothing of Flower but the environment that its programs want. Every process runs under a
guardian (`deploy/processes/child.py`), so that none outlives the supervisor, even when that is
killed.
"""

import contextlib
import os
import re
import signal
import site
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from common.utils.logs import begin_anew, keep_short
from deploy.processes import child

Command = Sequence[str] | Callable[[], Sequence[str]]
"""An argument list, or what makes it anew at every start (a port may be taken by then)."""

LOGS = 5.0  # seconds between two looks at the size of their logs
WATCH = 0.1  # seconds between two looks at the processes
HEALTHY = 60.0  # seconds after which a restart counts as the first again
LAST_KILL = 2.0  # seconds that a process killed by SIGKILL may take to go
LOOPBACK = "127.0.0.1"
TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Restart:
    """When a process that ended is started again: after `first` seconds, then twice as long each
    time, up to `longest`."""

    first: float
    longest: float

    def delay(self, ends: int) -> float:
        """Seconds to wait after the `ends`-th quick end in a row, counted from 1."""
        return min(self.longest, self.first * 2.0 ** (ends - 1))


def environment(flwr_home: Path, threads: int = 0, poll: float = 0.05) -> dict[str, str]:
    """The environment for Flower's programs and ours: nothing leaves the machine unasked.

    `threads` limits the CPU threads of torch and of the maths libraries (0: their choice). `poll`
    is the seconds between two questions of a SuperExec for work.
    """
    values = dict(os.environ)
    programs = (sysconfig.get_path("scripts"), str(Path(sys.executable).parent))
    values["PATH"] = os.pathsep.join([*programs, values.get("PATH", os.defpath)])
    root = Path(__file__).resolve().parents[2]
    if str(root) not in (*site.getsitepackages(), site.getusersitepackages()):
        # A checkout that was not installed is found by the processes, too.
        values["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), values.get("PYTHONPATH")]))
    for name in ("NO_PROXY", "no_proxy"):
        values[name] = ",".join(filter(None, [values.get(name), "localhost", LOOPBACK]))
    values |= {
        "FLWR_HOME": str(flwr_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": str(poll),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
    }
    if threads:
        for library in ("OMP", "MKL", "OPENBLAS"):
            values[f"{library}_NUM_THREADS"] = str(threads)
    return values


def free_ports(number: int) -> list[int]:
    """`number` different TCP ports that are free on the loopback interface at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def free_port() -> int:
    """A TCP port that is free on the loopback interface at this moment."""
    return free_ports(1)[0]


@dataclass
class _Watched:
    """One process under its guardian."""

    command: Command
    environment: Mapping[str, str]
    restart: Restart | None
    guardian: subprocess.Popen[bytes]
    started: float
    ends: int = 0
    quick_ends: int = 0
    due: float | None = field(default=None)  # when it is started again


class Supervisor:
    """Starts named processes, keeps their logs, restarts those that should run, ends them all.

    The log of `name` is `<logs>/<name>.log` (standard output and error, appended to at a restart),
    of bounded size (`common.utils.logs.keep_short`); beside it, as `.log.1`, what came before.
    Processes start in `folder`, which should be empty: Python and Flower look for code where they
    are started. A context manager: leaving it ends everything.
    """

    def __init__(self, logs: Path, folder: Path) -> None:
        self._logs = logs
        self._folder = folder
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        logs.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(
        self,
        name: str,
        command: Command,
        environment: Mapping[str, str],
        restart: Restart | None = None,
    ) -> None:
        """Start `command` (no shell) under `name`; with `restart`, again whenever it ends."""
        with self._lock:
            if self._stopping.is_set():
                raise RuntimeError("the supervisor has been stopped")
            if name in self._watched:
                raise ValueError(f"there is a process called {name!r} already")
            begin_anew(self.log(name))
            guardian = self._launch(name, command, environment)
            self._watched[name] = _Watched(
                command, environment, restart, guardian, time.monotonic()
            )
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True)
                self._watcher.start()

    def running(self, name: str) -> bool:
        """Whether the process is there now."""
        with self._lock:
            watched = self._watched[name]
            return watched.due is None and not _ended(watched.guardian)

    def ends(self, name: str) -> int:
        """How often the process has ended by itself."""
        with self._lock:
            watched = self._watched[name]
            return watched.ends + (watched.due is None and _ended(watched.guardian))

    def guardians(self) -> dict[str, int]:
        """The process id of each guardian: the id of its processes' group and session, too."""
        with self._lock:
            return {name: watched.guardian.pid for name, watched in self._watched.items()}

    def log(self, name: str) -> Path:
        """Where the process's output goes."""
        return self._logs / f"{name}.log"

    def last_line(self, name: str) -> str:
        """The last line with text in the process's log, or ""."""
        try:
            text = self.log(name).read_bytes()[-8192:].decode(errors="replace")
        except FileNotFoundError:
            return ""
        lines = [TERMINAL_CODES.sub("", line).strip() for line in text.splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def stop(self, grace: float = 5.0) -> None:
        """End every process: SIGTERM to all, at most `grace` seconds for all together, SIGKILL.

        May be called again, and may be interrupted: the processes are gone all the same.
        """
        self._stopping.set()
        try:
            with self._lock:  # from here on nothing is started
                guardians = [watched.guardian for watched in self._watched.values()]
            for guardian in guardians:
                _signal(guardian, signal.SIGTERM)
            _wait(guardians, grace)
        finally:
            guardians = [watched.guardian for watched in self._watched.values()]
            for guardian in guardians:
                _signal(guardian, signal.SIGKILL)
            _wait(guardians, LAST_KILL)

    def _launch(
        self, name: str, command: Command, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        arguments = command() if callable(command) else command
        guardian = [sys.executable, "-I", "-S", str(Path(child.__file__).resolve()), "--"]
        with self.log(name).open("ab") as log:
            return subprocess.Popen(
                [*guardian, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=dict(environment),
                start_new_session=True,
            )

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._stopping.wait(WATCH):
            if time.monotonic() - looked > LOGS:
                looked = time.monotonic()
                for log in self._logs.glob("*.log"):  # also those of its processes' children
                    keep_short(log)
            with self._lock:
                for name, watched in self._watched.items():
                    if not self._stopping.is_set():
                        self._look_at(name, watched)

    def _look_at(self, name: str, watched: _Watched) -> None:
        now = time.monotonic()
        if watched.restart is None:
            return
        if watched.due is None and _ended(watched.guardian):
            _bury(watched.guardian)
            quick = now - watched.started < HEALTHY
            watched.ends += 1
            watched.quick_ends = watched.quick_ends + 1 if quick else 1
            watched.due = now + watched.restart.delay(watched.quick_ends)
        elif watched.due is not None and now >= watched.due:
            watched.guardian = self._launch(name, watched.command, watched.environment)
            watched.started, watched.due = now, None


def _ended(guardian: subprocess.Popen[bytes]) -> bool:
    """Whether the guardian has ended; it is not reaped, so that its group's id stays its own."""
    if guardian.returncode is not None:
        return True
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, guardian.pid, options) is not None


def _signal(guardian: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if guardian.returncode is None:
        # macOS refuses with PermissionError where only a zombie is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(guardian.pid, number)


def _bury(guardian: subprocess.Popen[bytes]) -> None:
    """Reap a guardian that has ended, and end what it left if it was itself killed."""
    _signal(guardian, signal.SIGKILL)
    guardian.wait()
    _close(guardian.stdin)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        pipe.close()


def _wait(guardians: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    left = [guardian for guardian in guardians if guardian.returncode is None]
    while left and time.monotonic() < deadline:
        for guardian in left:
            if _ended(guardian):
                _bury(guardian)
        left = [guardian for guardian in left if guardian.returncode is None]
        if left:
            time.sleep(child.PAUSE)
