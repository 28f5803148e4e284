"""`python -m deploy.flower.superlink`: `flower-superlink` of flwr 1.41 with two things put right.

Its database waits 5 s for a lock, as on a busy machine there are, and then the SuperLink answers
"500 database is locked", which ends the run. Here it waits longer.

And it gives Alembic the folder of its database migrations in an option that Alembic splits at
spaces unless told otherwise: under a path with spaces no migration is found, and the SuperLink runs
without tables. Here Alembic is told to split at the system's path separator.
"""

import sys
from importlib.metadata import entry_points
from typing import Any

from alembic.config import Config
from flwr.supercore import sql_mixin
from flwr.supercore.constant import SQLITE_PRAGMAS
from flwr.supercore.state.alembic import utils

NAME = "flower-superlink"
LOCK = 25.0  # seconds; Flower's clients wait 30 s for an answer


class PathsWithSpaces(Config):
    """Alembic's configuration, where a space does not end a path."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_main_option("path_separator", "os")


def split_no_paths() -> None:
    """From here on Flower finds its migrations whatever path they lie under."""
    utils.Config = PathsWithSpaces  # type: ignore[attr-defined]


def wait_for_locks() -> None:
    """From here on every connection to a database waits `LOCK` seconds for one."""
    settings = dict(SQLITE_PRAGMAS) | {"busy_timeout": f"{1000 * LOCK:.0f}"}
    sql_mixin.SQLITE_PRAGMAS = tuple(settings.items())  # type: ignore[attr-defined, assignment]


def main() -> None:
    """Run `flower-superlink` with this process's arguments."""
    split_no_paths()
    wait_for_locks()
    (script,) = entry_points(group="console_scripts", name=NAME)
    sys.argv[0] = NAME
    script.load()()


if __name__ == "__main__":
    main()
