"""`python -m deploy.superlink`: `flower-superlink`, where it is installed under a path with spaces.

flwr 1.41 gives Alembic the folder of its database migrations in an option that Alembic splits at
spaces unless told otherwise: no migration is found, and the SuperLink runs without tables. Here
Alembic is told to split at the system's path separator.
"""

import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

import alembic.config

NAME = "flower-superlink"


class PathsWithSpaces(alembic.config.Config):
    """Alembic's configuration, where a space does not end a path."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_main_option("path_separator", "os")


def program() -> list[str]:
    """The arguments that start a SuperLink here."""
    flwr = find_spec("flwr")
    if flwr is not None and " " in str(flwr.origin):
        return [sys.executable, "-m", "deploy.superlink"]
    return [NAME]


def main() -> None:
    """Run `flower-superlink` with this process's arguments."""
    alembic.config.Config = PathsWithSpaces  # type: ignore[misc]
    (script,) = entry_points(group="console_scripts", name=NAME)
    sys.argv[0] = NAME
    script.load()()


if __name__ == "__main__":
    main()
