"""The connection's end: the trainer as a process of its own, started again when it ends.

The two are tied by a pair of connected sockets, which has no name: nobody else can connect to it,
and there is no file that a system's cleaner could delete. The trainer ends when the other end is
gone, and is in the process group of who started it, so that a guardian ends both.
"""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from client.resident.channel import READY, Channel, TrainerGoneError, put
from common.protocol.records import Encoded
from common.utils.errors import UserError

FIRST, LONGEST = 0.5, 20.0  # seconds before it is started again: twice as long after a quick end
QUICK = 60.0  # seconds; who has lived longer starts anew with `FIRST`
ATTEMPTS = 5  # at one question, which may be what kills it
LOADING = 600.0  # seconds for torch and the images: a folder of photographs is decoded
ENDED = "the trainer ended while it was starting"
AGAIN = "the trainer ended and is started again"
LEAVING = 1.0  # seconds between SIGTERM and SIGKILL


class TrainerProcess:
    """The trainer that `command` starts, with `--channel` and its socket's number; its output goes
    to the file `log`. `say` is told, in a thread, each time that it is started again."""

    def __init__(self, command: Sequence[str], log: Path, say: Callable[[str], None]) -> None:
        self._command = list(command)
        self._log = log
        self._say = say
        self._changed = threading.Condition()
        self._channel: Channel | None = None  # of a trainer that is ready
        self._process: subprocess.Popen[bytes] | None = None
        self.failed = False  # it ended before it was ready for the first time
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def wait(self, seconds: float = LOADING) -> Channel:
        """Return when the trainer is ready; `UserError` where it ended while it was starting for
        the first time, or is not ready in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._channel or self.failed, seconds)
            channel = self._channel
        if self.failed:
            raise UserError(ENDED)
        if channel is None:
            raise UserError(f"the trainer was not ready within {seconds:.0f} s")
        return channel

    def ask(self, record: Encoded) -> Encoded:
        """The trainer's answer to one encoded record.

        A trainer that ends while it works is asked again when it is back: it starts from its last
        state and does the same work. `UserError` for what the trainer itself refuses, where it is
        not ready for `LOADING` seconds, or has ended `ATTEMPTS` times over this record.
        """
        for _ in range(ATTEMPTS):
            channel = self.wait()
            try:
                return put(channel, record)
            except TrainerGoneError:
                self._give_up(channel)
        raise UserError(f"the trainer ended {ATTEMPTS} times at work on this")

    def stop(self) -> None:
        """End it."""
        with self._changed:
            self._stopping.set()
            process = self._process
        if process is not None:
            process.terminate()
            self._keeper.join(LEAVING)
            process.kill()

    def _keep(self) -> None:
        """Start it, and again whenever it ends."""
        ends, ever = 0, False
        while True:
            started = time.monotonic()
            with self._changed:
                if self._stopping.is_set():
                    return
                channel, self._process = self._launch()
            ready = _says_ready(channel)
            self._set(channel if ready else None)
            ever |= ready
            failed = self._process.wait() > 0 and not ever  # it was not killed: it cannot start
            self._set(None, failed)
            if self._stopping.is_set() or failed:
                return
            ends = ends + 1 if time.monotonic() - started < QUICK else 1
            if self._process.returncode:  # 0: somebody has asked it to end
                self._say(AGAIN)
            self._stopping.wait(min(LONGEST, FIRST * 2.0 ** (ends - 1)))

    def _launch(self) -> tuple[Channel, "subprocess.Popen[bytes]"]:
        ours, its = socket.socketpair()
        with its, self._log.open("ab") as log:
            process = subprocess.Popen(
                [*self._command, "--channel", str(its.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[its.fileno()],
            )
        return Channel(ours), process

    def _set(self, channel: Channel | None, failed: bool = False) -> None:
        with self._changed:
            self._channel, self.failed = channel, failed
            self._changed.notify_all()

    def _give_up(self, channel: Channel) -> None:
        """The trainer at the other end does not answer any more: one that is still there ends."""
        with self._changed:
            if self._channel is channel and self._process is not None:
                self._channel = None
                self._process.kill()


def _says_ready(channel: Channel) -> bool:
    try:
        return channel.receive() == READY
    except (EOFError, OSError):
        return False
