"""flwr's database waits for a lock; its migrations are found under a path with spaces, too."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from flwr.supercore import sql_mixin
from flwr.supercore.state import alembic as migrations

from deploy import superlink


def revisions(kind: type[Config], folder: Path) -> list[str]:
    config = kind()  # the options as flwr sets them
    config.set_main_option("script_location", str(folder))
    config.set_main_option("version_locations", str(folder / "versions"))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_alembic_splits_no_path_at_its_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "a path with spaces"
    shutil.copytree(Path(migrations.__file__).parent, folder)
    assert revisions(superlink.PathsWithSpaces, folder)
    assert not revisions(Config, folder)  # when this fails, deploy/superlink.py can go


def test_the_database_waits_for_a_lock_for_longer_than_flower_lets_it(monkeypatch) -> None:
    monkeypatch.setattr(sql_mixin, "SQLITE_PRAGMAS", sql_mixin.SQLITE_PRAGMAS)  # put back after it

    def waits() -> int:
        with closing(sqlite3.connect(":memory:")) as connection:
            sql_mixin._set_sqlite_pragmas(connection, None)  # as Flower does for each connection
            return int(connection.execute("PRAGMA busy_timeout").fetchone()[0])

    assert waits() == 5_000  # when this fails, flwr has changed its mind
    superlink.wait_for_locks()
    assert waits() == 25_000
    assert superlink.LOCK < 30  # what Flower's clients wait for an answer
