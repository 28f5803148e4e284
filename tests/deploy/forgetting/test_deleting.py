"""The run that another one is in the place of is deleted whole, or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.record.reader import read_settings
from common.utils.errors import UserError
from deploy.cli.main import app
from deploy.forgetting.deleting import delete, to_delete
from server.run.folder import RunFolder
from tests.builders.forgetting import QUICK, SITE, random_files

Finished = Callable[..., Path]


def covey(*arguments: object, say: str = "", expect: int = 0) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments], input=say)
    if expect == 2:
        assert isinstance(done.exception, UserError)
        return str(done.exception)
    assert done.exit_code == expect, done.output
    return done.output


@pytest.fixture
def listed(finished: Finished, tmp_path: Path) -> tuple[Path, Path]:
    before = finished(QUICK, images=120)
    names = tmp_path / "list.txt"
    names.write_text("\n".join(random_files(before, 4).names))
    return before, names


def test_it_is_deleted_with_the_new_run_or_later_and_is_asked_for(
    listed: tuple[Path, Path],
) -> None:
    before, names = listed
    forget = ("forget", before, "--site", SITE, "--files", names)
    assert "covey forget makes one first" in covey("forget", before, "--delete", expect=2)
    assert "this cannot be undone" in covey(*forget, "--delete", say="n\n", expect=1)
    assert read_settings(before).superseded is None
    assert f"covey forget {before} --delete removes it" in covey(*forget, "--yes")
    covey("forget", before, "--delete", say="n\n", expect=1)
    assert before.exists()
    assert "its model, states, tables and report" in covey("forget", before, "--delete", say="y\n")
    assert [path.name for path in before.parent.iterdir()] == ["before-without-1"]
    second = before.parent / "before-without-1"
    names.write_text("\n".join(random_files(second, 4).names))
    covey("forget", second, "--site", SITE, "--files", names, "--delete", "--yes")
    assert [path.name for path in before.parent.iterdir()] == ["before-without-2"]


def test_a_deletion_that_was_killed_leaves_no_half_of_a_run(
    listed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, names = listed
    covey("forget", before, "--site", SITE, "--files", names, "--yes")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", interrupted)
        delete(to_delete(before))
    assert not before.exists()
    after = before.parent / "before-without-1"
    names.write_text(random_files(after, 1).names[0])
    covey("forget", after, "--site", SITE, "--files", names, "--delete", "--yes")
    assert [path.name for path in before.parent.iterdir()] == ["before-without-2"]


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_what_is_not_to_be_deleted_stays(listed: tuple[Path, Path]) -> None:
    before, names = listed
    assert "which site takes images back?" in covey("forget", before, expect=2)
    assert "which site" in covey("forget", before, "--delete", "--all", expect=2)
    covey("forget", before, "--site", SITE, "--files", names, "--yes")
    with RunFolder(before).held(), pytest.raises(UserError, match="is going on"):
        to_delete(before)
    assert before.exists()
