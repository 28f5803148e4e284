"""flwr's database waits for a lock; its migrations are found under a path with spaces, too."""

import resource
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn
from alembic.script import ScriptDirectory
from flwr.supercore import sql_mixin
from flwr.supercore.state.alembic import utils
from flwr.superlink.servicer.fleet import fleet_handlers
from sqlalchemy import create_engine

from deploy.flower import superlink
from deploy.processes.connections import take_many_connections


def revisions() -> list[str]:
    config = utils.build_alembic_config(create_engine("sqlite://"))  # as Flower makes it
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_flower_finds_its_migrations_under_a_path_with_spaces(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "a path with spaces"
    shutil.copytree(utils.ALEMBIC_DIR, folder)
    monkeypatch.setattr(utils, "ALEMBIC_DIR", folder)
    monkeypatch.setattr(utils, "Config", utils.Config)  # put back after it
    assert not revisions()  # when this fails, deploy/flower/superlink.py can do without it
    superlink.split_no_paths()
    assert revisions()


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


def test_what_is_deleted_or_overwritten_is_neither_written_again_nor_kept_in_memory(
    monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sql_mixin, "SQLITE_PRAGMAS", sql_mixin.SQLITE_PRAGMAS)  # put back after it
    superlink.wait_for_locks()
    with closing(sqlite3.connect(tmp_path / "some.db", isolation_level=None)) as connection:
        sql_mixin._set_sqlite_pragmas(connection, None)
        assert connection.execute("PRAGMA temp_store").fetchone() == (1,)  # files
        connection.execute("CREATE TABLE objects (content BLOB)")
        connection.execute("INSERT INTO objects VALUES (?)", (bytes(5_000_000),))
        log = tmp_path / "some.db-wal"
        before = log.stat().st_size
        connection.execute("DELETE FROM objects")
        assert log.stat().st_size - before < 100_000


def test_where_flower_has_moved_something_it_is_served_as_it_is(monkeypatch) -> None:
    served = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: served.append((app, options)))
    monkeypatch.delattr(fleet_handlers, "pull_messages")
    superlink.serve_whole_messages()
    uvicorn.run(app="Flower's", access_log=True)
    assert served == [("Flower's", {"access_log": True})]


def test_a_state_in_memory_is_served_as_it_is() -> None:
    app = SimpleNamespace(state=SimpleNamespace(linkstate_factory=SimpleNamespace(state=object)))
    assert superlink.with_calls(app) is app


def test_a_process_may_have_many_connections() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        take_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
