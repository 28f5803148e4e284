"""What `covey runs` and `covey server sites` tell is what the runs recorded."""

import json

import pytest

from common.utils.errors import UserError
from common.utils.lock import locked
from deploy.coordinator.folder import init
from deploy.coordinator.recorded import recorded_runs, taken
from deploy.coordinator.run_list import find, list_runs
from deploy.coordinator.sites import as_json, sites
from server.run.folder import LOCK


def write_run(folder, name, status, events, created="2026-05-04T03:02:01+0000"):
    run = folder / name
    run.mkdir(parents=True)
    facts = {"examples": 100, "side": 8}
    record = {
        "recipe": "fedbyol",
        "status": status,
        "created": created,
        "plan": {"stages": [{"rounds": 3}, {"rounds": 2}]},
        "sites": {"north": facts, "south": facts},
    }
    (run / "run.json").write_text(json.dumps(record))
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (run / "metrics.jsonl").write_text(lines + '{"event": "rou')
    return run


def trained(*answered, **figures):
    received = {"acc": 0.5, "nmi": 0.25}
    moved = {"bytes_down": 60, "bytes_up": 40}
    return {"event": "round", "answered": list(answered), "received": received, **moved, **figures}


@pytest.fixture
def server(tmp_path):
    return init(tmp_path / "server", "127.0.0.1:8443")


def test_rounds_and_bytes_are_counted_for_those_who_answered(server):
    events = [trained("north", "south"), {"event": "warning", "text": "x"}, trained("south")]
    stage = {"event": "stage", "answered": ["south"], "bytes_down": 5, "bytes_up": 5}
    write_run(server.runs, "a", "finished", [*events, stage])
    write_run(server.runs, "b", "running", [trained("north")], created="2027")
    took = taken(recorded_runs(server.runs))
    assert (took["north"].rounds, took["north"].bytes) == (2, 150)
    assert (took["south"].rounds, took["south"].bytes) == (2, 160)
    assert took["south"].examples == 100


def test_a_run_is_listed_with_what_it_has_reached(server):
    stage = {"event": "stage", "acc": 0.75, "nmi": 0.5, "answered": []}
    write_run(server.runs, "a", "finished", [trained("north"), stage])
    write_run(server.runs, "b", "running", [trained("north"), trained("north")], created="2027")
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
    events = [trained("north", labels=[1, 2], embeddings=[[0.5]], table=[[1]])]
    write_run(server.runs, "a", "finished", events)
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
