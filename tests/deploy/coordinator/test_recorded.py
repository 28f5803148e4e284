"""What `covey runs` and `covey server sites` tell is what the runs recorded."""

import json

import pytest
from rich.console import Console

from common.record.reader import EVENTS
from common.record.schema import WarningEvent
from common.utils.errors import UserError
from common.utils.lock import locked
from deploy.coordinator.folder import init
from deploy.coordinator.recorded import recorded_runs, taken
from deploy.coordinator.run_list import find, list_runs, show_runs
from deploy.coordinator.sites import as_json, sites
from server.run.folder import LOCK
from tests.builders.records import a_round, a_run, a_stage, write_record


def write_run(folder, name, status, events, created="2026-05-04T03:02:01+0000"):
    run = write_record(folder / name, a_run(status=status, created=created), events)
    with (run / EVENTS).open("a") as file:
        file.write('{"event": "rou')
    return run


@pytest.fixture
def server(tmp_path):
    return init(tmp_path / "server", "127.0.0.1:8443")


def test_rounds_and_bytes_are_counted_for_those_who_answered(server):
    warning = WarningEvent(round=1, text="x")
    events = [a_round(1, "north", "south"), warning, a_round(2, "south")]
    stage = a_stage("south", bytes_down=5, bytes_up=5)
    write_run(server.runs, "a", "finished", [*events, stage])
    write_run(server.runs, "b", "running", [a_round(1, "north")], created="2027")
    took = taken(recorded_runs(server.runs))
    assert (took["north"].rounds, took["north"].bytes) == (2, 150)
    assert (took["south"].rounds, took["south"].bytes) == (2, 160)
    assert took["south"].examples == 100


def test_a_run_is_listed_with_what_it_has_reached(server):
    stage = a_stage(figures={"acc": 0.75, "nmi": 0.5})
    write_run(server.runs, "a", "finished", [a_round(1, "north"), stage])
    two = [a_round(1, "north"), a_round(2, "north")]
    write_run(server.runs, "b", "running", two, created="2027")
    held = write_run(server.runs, "c", "running", [], created="2028")
    (server.runs / "d").mkdir()
    with locked(held / LOCK):
        lines = {line.id: line for line in list_runs(server)}
    assert {name: line.status for name, line in lines.items()} == {
        "a": "finished",
        "b": "stopped",  # begun, and nobody is at work in it
        "c": "running",
        "d": "stopped",  # never begun, and unknown to the server
    }
    assert (lines["a"].nmi, lines["a"].acc) == (0.5, 0.75)
    assert (lines["b"].rounds, lines["b"].planned, lines["b"].nmi) == (2, 5, 0.25)
    assert lines["d"].row(("nmi", "acc"))[1:] == ("–", "stopped", "0/?", "–", "–", "–")


def test_no_label_and_no_embedding_is_told(server, tmp_path):
    write_run(server.runs, "a", "finished", [a_round(1, "north"), a_stage(table=((1,),))])
    told = json.dumps(as_json(sites(server))) + json.dumps([vars(r) for r in list_runs(server)])
    assert not any(word in told for word in ("label", "embedding", "table"))


def test_a_run_is_found_by_its_name_and_by_its_path(server, tmp_path, monkeypatch):
    run = write_run(server.runs, "a", "finished", [])
    assert find(server, "a") == find(server, str(run)) == run
    monkeypatch.chdir(server.path)
    assert find(server, "runs/a") == run
    with pytest.raises(UserError, match="unknown run 'b': known: a"):
        find(server, "b")
    with pytest.raises(UserError, match="unknown run"):
        find(server, "../runs")


def test_a_damaged_record_is_told_in_a_line_and_hides_no_other_run(server):
    for name in "ab":
        write_run(server.runs, name, "finished", [a_round(1, "north"), a_round(2, "north")])
    path = server.runs / "b" / EVENTS
    path.write_text(path.read_text().replace('"bytes_up":40', '"bytes_up":"many"', 1))
    write_run(server.runs, "c", "finished", [])
    (server.runs / "c" / "run.json").write_text('{"id": "c", "pl')
    lines = {line.id: line for line in list_runs(server)}
    assert [lines[name].status for name in "abc"] == ["finished", "finished", "damaged"]
    assert [lines[name].rounds for name in "abc"] == [2, 1, 0]
    console = Console(width=80, record=True)
    show_runs(list(lines.values()), console)
    text = console.export_text()
    assert "b: metrics.jsonl, line 1 is damaged: round.bytes_up: " in text
    assert f"c: {server.runs / 'c' / 'run.json'} is damaged: it is no JSON" in text
