"""Waiting for a process that is starting, and what is said where it does not come up."""

import time
from collections.abc import Callable

from common.utils.errors import UserError
from deploy.processes.supervisor import Supervisor

ATTEMPTS = 3  # quick ends of a program before starting is given up
PATIENCE = 90.0  # seconds for all that is started together to come up
LOOK = 0.1  # seconds between two looks


def await_up(supervisor: Supervisor, name: str, is_up: Callable[[], bool], deadline: float) -> None:
    """Return when `is_up` says so; `UserError` as `check_starting`."""
    while not is_up():
        check_starting(supervisor, name, deadline)
        time.sleep(LOOK)


def check_starting(supervisor: Supervisor, name: str, deadline: float) -> None:
    """`UserError` with the end of its log where `name` has ended too often, or it is later than
    `deadline` on the monotonic clock."""
    if name in supervisor.guardians() and supervisor.ends(name) >= ATTEMPTS:
        raise failure(supervisor, name, "ended while it was starting")
    if time.monotonic() > deadline:
        raise failure(supervisor, name, f"did not come up within {PATIENCE:.0f} s")


def failure(supervisor: Supervisor, name: str, what: str) -> UserError:
    """What became of `name`, with the last line of its log."""
    last = supervisor.last_line(name) or "no output"
    return UserError(f"{name} {what}: {last} (log: {supervisor.log(name)})")
