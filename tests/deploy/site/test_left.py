"""What left a site is told afterwards, run by run."""

import io
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console

from common.utils.errors import UserError
from deploy.coordinator.folder import init, invite
from deploy.identity.invitation import Invitation
from deploy.processes.supervisor import LOOPBACK, free_port
from deploy.site.folder import SiteFolder
from deploy.site.left import read_ledger, show_ledger
from deploy.site.status import show_status


@pytest.fixture
def home(tmp_path):
    """A site's folder, claimed by an invitation to a server that does not run."""
    server = init(tmp_path / "server", f"{LOOPBACK}:{free_port()}")
    invite(server, "north", tmp_path / "north.toml")
    home = SiteFolder(tmp_path / "work")
    home.claim(Invitation.read(tmp_path / "north.toml"))
    return home


def shown(folder, run=""):
    screen = io.StringIO()
    show_ledger(read_ledger(folder, run), Console(file=screen, width=80))
    return screen.getvalue()


def test_the_log_tells_what_left_and_adds_it_up(tmp_path):
    entries = [
        {"kind": "hello", "round": 0, "parts": {}, "bytes": 300},
        {"kind": "train", "round": 3, "parts": {"centroids": [10, 256]}, "bytes": 1_500_000},
    ]
    now = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S%z")
    lines = [json.dumps({**e, "time": now, "sha256": "ab" * 32}) for e in entries]
    (tmp_path / "left.jsonl").write_text("\n".join(lines) + "\n")
    said = shown(tmp_path)
    assert "who this site is" in said and "round 3 (train)" in said
    assert "centroids 10×256" in said and "2026-05-04 03:02:01" in said
    assert said.endswith("2 answers, 1.5 MB in all\n")
    assert max(map(len, said.splitlines())) <= 80


def test_what_left_is_told_run_by_run(home):
    entry = {"kind": "train", "parts": {}, "time": "2026-05-04T03:02:01+0000"}
    old = [{**entry, "round": 1, "bytes": 1_000}]  # as written before lines named their run
    new = [
        {**entry, "run": run, "round": number, "bytes": 10**number}
        for run, number in (("a", 4), ("b", 5), ("a", 6))
    ]
    home.ledger.write_text("".join(json.dumps(line) + "\n" for line in old + new))
    (home.path / "b").mkdir()  # the folder that was written to last
    said = shown(home.path)
    assert said.index("run not noted") < said.index("run a") < said.index("run b")
    assert "4 answers, 1.1 MB in all" in said
    assert "2 answers, 1.0 MB in all" in shown(home.path, "a")
    with pytest.raises(UserError, match="unknown run 'c': known: a, b"):
        read_ledger(home.path, "c")
    screen = io.StringIO()
    assert not show_status(home, Console(file=screen, width=80))
    assert "last answer: round 6 (train), 2026-05-04 03:02:01, run a\n" in screen.getvalue()
    home.ledger.write_text(json.dumps(old[0]) + "\n")
    screen = io.StringIO()
    show_status(home, Console(file=screen, width=80))
    assert "last answer: round 1 (train), 2026-05-04 03:02:01\n" in screen.getvalue()


@pytest.mark.parametrize("damage", [b"[1]\n", b"\xff\n", b"{\n", b"3\n"])
def test_a_log_that_was_damaged_is_named(tmp_path, damage):
    (tmp_path / "left.jsonl").write_bytes(damage)
    with pytest.raises(UserError, match=r"left\.jsonl is damaged"):
        read_ledger(tmp_path)


def test_a_folder_that_is_no_sites_has_no_log(tmp_path, home):
    with pytest.raises(UserError, match="is no site's folder"):
        read_ledger(tmp_path)
    assert read_ledger(home.path) == []
