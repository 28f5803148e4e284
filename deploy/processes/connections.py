"""How many connections a process may have open."""

import resource
from contextlib import suppress


def take_many_connections() -> None:
    """Let this process have as many as the system allows it: a server has one or two for each
    site."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # it has what it has
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
