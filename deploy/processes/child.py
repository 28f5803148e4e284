"""The guardian of one supervised process: what it started never outlives the supervisor.

`python child.py -- COMMAND...` starts COMMAND in its own process group, with standard input from
nowhere. Its own standard input is a pipe whose other end only the supervisor holds: when the
supervisor is gone, however it went, the pipe closes and the guardian ends the whole group. It also
ends what COMMAND leaves behind (a SuperNode's SuperExec, a ClientApp), so that its own exit means
that everything is over. Unlike Linux's parent-death signal this covers grandchildren, and does not
fire when merely the starting thread ends.

Nothing but the standard library is imported, so that this starts in some 20 ms and stays small.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from types import FrameType

GRACE = 3.0  # seconds between SIGTERM and SIGKILL
PAUSE = 0.02
NOT_FOUND = 127  # what a shell returns for a command that is not there
PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Run the command after `--`; its exit code, or 128 + the signal that ended it."""
    command = arguments[arguments.index("--") + 1 :]
    _adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # The group's signals reach the command directly. A handler, unlike SIG_IGN, is not
        # inherited by it.
        signal.signal(number, _let_pass)
    try:
        child = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
        )
    except OSError as error:
        print(f"covey: cannot start {command[0]}: {error.strerror}", flush=True)
        return NOT_FOUND
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    status = _wait_for(child)
    _end_the_rest()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _let_pass(_number: int, _frame: FrameType | None) -> None:
    pass


def _adopt_orphans() -> None:
    """Become the parent of orphaned grandchildren, to see them end (Linux; elsewhere they are
    ended with the group, but not waited for)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_for(child: int) -> int:
    while True:
        ended, status = os.wait()
        if ended == child:
            return status


def _end_with_supervisor() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(os.getpgrp(), signal.SIGKILL)  # this process too


def _end_the_rest() -> None:
    os.killpg(os.getpgrp(), signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            time.sleep(PAUSE)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
