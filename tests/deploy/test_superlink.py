"""flwr's database migrations are found under a path with spaces, too."""

import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
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


@pytest.mark.parametrize(
    ("origin", "ours"), [("/opt/venv/flwr/__init__.py", False), ("/my venv/flwr/__init__.py", True)]
)
def test_the_stock_program_runs_wherever_it_can(monkeypatch, origin: str, ours: bool) -> None:
    monkeypatch.setattr(superlink, "find_spec", lambda _: ModuleSpec("flwr", None, origin=origin))
    assert ("deploy.superlink" in superlink.program()) == ours
