"""`covey audit-forgetting`, after `covey forget`."""

import json
from pathlib import Path

import pytest

from deploy.engines.simulate import simulate
from tests.builders.audits import IMAGES
from tests.builders.runs import plan
from tests.deploy.helpers import covey


def test_a_run_of_covey_forget_is_audited(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"encoder": "noise-filters", "rounds": 0, "images": IMAGES}
    simulate(plan("covey-exact", **given), tmp_path / "run")
    names = [line.partition(",")[0] for line in table(tmp_path / "run")]
    (tmp_path / "list").write_text("\n".join(names[:30]))
    forget = ("forget", "run", "--site", "site-1", "--files", "list", "--yes")
    assert covey(capsys, *forget)[0] == 0
    audit = ("audit-forgetting", "run", "run-without-1", "--references", "2", "--json", "a.json")
    code, out, err = covey(capsys, *audit)
    assert code == 0, err
    assert "exact: What was learned is, bit for bit" in out
    found = json.loads((tmp_path / "a.json").read_text())
    assert found == json.loads((tmp_path / "run-without-1" / "forget-report.json").read_text())
    assert found["sites"] == {"site-1": 30}
    assert (tmp_path / "run-without-1" / "forget-report.html").exists()


def test_forgetting_is_audited_at_once(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"encoder": "noise-filters", "rounds": 0, "images": IMAGES}
    simulate(plan("covey-exact", **given), tmp_path / "run")
    forget = ("forget", "run", "--site", "site-1", "--all", "--yes", "--audit", "--json", "a.json")
    code, _, err = covey(capsys, *forget)
    assert code == 0, err
    assert json.loads((tmp_path / "a.json").read_text())["audit"]["verdict"]["outcome"] == "exact"


def test_a_run_that_the_server_does_not_know_is_one_line(capsys) -> None:
    code, _, err = covey(capsys, "audit-forgetting", "a", "b", "--server", "x")
    assert code == 2
    assert "unknown run 'a'" in err


def table(run: Path) -> list[str]:
    """Lines of the site's table, without its head."""
    return (run / "sites" / "site-1" / "run" / "assignments.csv").read_text().splitlines()[1:]


@pytest.mark.parametrize("count", ["1", "0", "-2"])
def test_fewer_than_two_references_are_refused(count: str, capsys) -> None:
    code, _, err = covey(capsys, "audit-forgetting", "a", "b", f"--references={count}")
    assert code == 2
    assert "--references" in err
    assert len(err.strip().splitlines()) == 1
