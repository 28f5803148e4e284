"""`python -m deploy.flower.superlink`: `flower-superlink` of flwr 1.41 with two things put right,
and four calls more.

Its database waits 5 s for a lock, as on a busy machine there are, and then the SuperLink answers
"500 database is locked", which ends the run. Here it waits longer.

And it gives Alembic the folder of its database migrations in an option that Alembic splits at
spaces unless told otherwise: under a path with spaces no migration is found, and the SuperLink runs
without tables. Here Alembic is told to split at the system's path separator.

The calls are whole messages and questions that are held (`deploy/flower/calls.py`), of a SuperLink
whose state is in a database.
"""

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import uvicorn
from alembic.config import Config
from flwr.supercore import sql_mixin
from flwr.supercore.constant import SQLITE_PRAGMAS
from flwr.supercore.state.alembic import utils

from deploy.flower import inside
from deploy.processes.connections import take_many_connections

NAME = "flower-superlink"
PAGE = 4096  # bytes of a page of SQLite
CHECKPOINT = 2**26  # bytes of the log from where it is copied: most of a round is deleted by then
CACHE = 2**21  # bytes of each of ten connections' own; the system keeps the file's pages anyway
GRACE = 2  # seconds for requests that are under way when it is told to end
IDLE = 75  # seconds for which a connection is kept that nobody uses
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
    """From here on every connection to a database waits `LOCK` seconds for one, and its log is
    copied to the database less often. A commit is not waited for until it is on the disk: a killed
    process loses nothing by that, a power cut perhaps the last seconds, all processes alike.

    What a statement overwrites is kept in a file until it is over, not in memory: it can be all of
    a model. What is deleted is not overwritten with zeros, as some systems' SQLite does, which
    costs as much as storing it: the file is the server's alone, and goes with its folder.
    """
    settings = dict(SQLITE_PRAGMAS) | {
        "busy_timeout": f"{1000 * LOCK:.0f}",
        "synchronous": "NORMAL",
        "temp_store": "FILE",
        "secure_delete": "FAST",
        "cache_size": f"-{CACHE // 1024}",
        "wal_autocheckpoint": f"{CHECKPOINT // PAGE}",
        "journal_size_limit": f"{CHECKPOINT}",
    }
    sql_mixin.SQLITE_PRAGMAS = tuple(settings.items())  # type: ignore[attr-defined, assignment]


def serve_whole_messages() -> None:
    """From here on a SuperLink that is started answers the four calls, too; where this flwr lacks
    something that they need, it does not, and says so."""
    if not inside.usable(inside.SERVING, "messages are served"):
        return
    run = uvicorn.run

    def run_with_calls(app: Any, **options: Any) -> None:
        # A held question is no reason not to end; a connection costs more than all else.
        ours = {
            "access_log": False,
            "timeout_graceful_shutdown": GRACE,
            "timeout_keep_alive": IDLE,
        }
        run(with_calls(app), **options | ours)

    uvicorn.run = run_with_calls


def with_calls(app: Any) -> Any:
    """Flower's application `app` with the four calls before it; as it is where its state is in
    memory, which has no transactions."""
    from deploy.flower.bells import Bells, hook  # noqa: PLC0415 (if this flwr has what they need)
    from deploy.flower.calls import Calls  # noqa: PLC0415
    from deploy.flower.kept import keep_large  # noqa: PLC0415
    from deploy.flower.messages import Messages  # noqa: PLC0415

    factory = app.state.linkstate_factory
    state = factory.state()
    if not hasattr(state, "session"):
        return app
    bells = Bells()
    kept = keep_large(state, Path(factory.database).resolve().parent)
    messages = Messages(bells, kept)
    messages.tidy(state)
    hook(bells, messages.ended)
    return Calls(app, kept, bells, messages)


def main() -> None:
    """Run `flower-superlink` with this process's arguments."""
    split_no_paths()
    wait_for_locks()
    take_many_connections()
    serve_whole_messages()
    (script,) = entry_points(group="console_scripts", name=NAME)
    sys.argv[0] = NAME
    script.load()()


if __name__ == "__main__":
    main()
