"""Only the process that follows a killed one in the same folder goes on as that one, and only as
long as the SuperLink counts the killed one as there."""

import json
import shutil

import pytest

from deploy.flower import mark
from deploy.flower.mark import VALID, Mark, since_boot


@pytest.fixture
def noted(tmp_path):
    made = Mark(tmp_path / "node.json")
    made.write(2**63 + 5, since_boot())
    return made


def test_the_next_process_knows_who_the_killed_one_was(noted):
    assert noted.node() == 2**63 + 5
    assert noted.path.stat().st_mode & 0o777 == 0o600


def test_a_heartbeat_later_it_still_does_and_a_shorter_note_leaves_nothing_behind(noted):
    noted.write(7, since_boot() - 1)
    assert noted.node() == 7


def test_no_longer_than_nobody_else_can_have_been_let_in(noted):
    assert VALID < 60
    noted.write(7, since_boot() - VALID + 1)
    assert noted.node() == 7
    noted.write(7, since_boot() - VALID - 1)
    assert noted.node() is None


def test_who_has_said_goodbye_has_no_successor(noted):
    noted.clear()
    assert noted.node() is None
    noted.clear()


def test_a_copy_of_the_folder_is_another_site(noted, tmp_path):
    shutil.copy2(noted.path, tmp_path / "copy.json")
    assert Mark(tmp_path / "copy.json").node() is None
    assert noted.node() is not None


def test_another_machine_or_the_same_after_a_start_is_another(noted, tmp_path, monkeypatch):
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(mark, "BOOT", tmp_path / "boot")
    assert noted.node() is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"node": 1}', '{"node": "x", "place": 0}'])
def test_a_note_that_was_cut_off_is_none(noted, content):
    noted.path.write_text(content)
    assert noted.node() is None


def test_a_note_of_the_future_is_none(noted):
    noted.write(7, since_boot() + 100)
    assert noted.node() is None
    assert json.loads(noted.path.read_text())["node"] == 7
