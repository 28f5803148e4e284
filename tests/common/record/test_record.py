"""What is written is read again; what a kill, a damage or an earlier Covey left is read too."""

import ast
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.record.data_map import DataMap
from common.record.metrics import FIGURES, METRICS
from common.record.reader import EVENTS, MAP, SETTINGS, Damaged, Follower, read_run, read_settings
from common.record.schema import (
    Change,
    ResumedEvent,
    Spread,
    StageEvent,
    WarningEvent,
)
from common.record.writer import append_event, take_back, write_map, write_settings
from common.utils.errors import UserError
from tests.builders.records import a_round, a_run, a_stage, write_record
from tests.server.sample_run import SampleRun

ROOT = Path(__file__).parents[3]
KINDS = [
    a_round(1, "north", missing=("south",), refused={"west": "no power"}),
    a_stage("north", figures={"acc": 0.5}, table=((1, 2), (0, 4))),
    WarningEvent(round=0, text="started with 2 of 3 sites"),
    ResumedEvent(round=2, changes=(Change(site="north", what="images", before=3, now=4),)),
]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    run = a_run(partition=Spread(spec="iid", hash="ab", sizes=(3, 4)), settled=("clusters",))
    drawn = DataMap(method="t-SNE", images=2, x=(0, 1), y=(2, 3), cluster=(0, 1), classes=(1, 1))
    write_settings(tmp_path, run)
    written = tuple(append_event(tmp_path, event) for event in KINDS)
    write_map(tmp_path, drawn)
    read = read_run(tmp_path)
    assert (read.run, read.events, read.map, read.damaged) == (run, written, drawn, ())
    assert all(event.time > 1.7e9 for event in read.events)
    assert read.rounds + read.stages + read.warnings + read.resumed == written


def test_both_files_say_their_format(tmp_path: Path) -> None:
    write_record(tmp_path, a_run(), KINDS)
    documents = [(tmp_path / SETTINGS).read_text(), *(tmp_path / EVENTS).read_text().splitlines()]
    assert [json.loads(text)["format"] for text in documents] == [1] * 5


def test_a_training_that_diverges_is_valid_json_and_no_number(tmp_path: Path) -> None:
    event = a_round(1, loss={"loss": float("nan"), "contrast": float("inf")})
    write_record(tmp_path, a_run(), [event])
    text = (tmp_path / EVENTS).read_text()
    json.loads(text, parse_constant=pytest.fail)  # NaN is JavaScript's, not JSON
    loss = read_run(tmp_path).rounds[0].loss
    assert loss["loss"] != loss["loss"] and loss["contrast"] != loss["contrast"]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_file_cut_anywhere_gives_the_events_before_the_cut(tmp_path_factory, data) -> None:
    events = SampleRun(sites=1, rounds=4).typed
    folder = write_record(tmp_path_factory.mktemp("cut"), a_run(), events)
    text = (folder / EVENTS).read_bytes()
    at = data.draw(st.integers(0, len(text)))
    (folder / EVENTS).write_bytes(text[:at])
    whole = text[:at].count(b"\n") + (text[at : at + 1] == b"\n")
    read = read_run(folder)
    assert read.events == tuple(events[:whole]) and read.damaged == ()


DAMAGES = {
    "not JSON": (b"\x00\xff garbage", "it is no JSON"),
    "not an object": (b"[1, 2]", "it is no JSON object"),
    "no kind": (b'{"format": 1, "round": 1}', "Unable to extract tag using discriminator 'event'"),
    "another kind": (b'{"event": "party", "format": 1}', "'party'"),
    "a later format": (b'{"event": "round", "format": 7}', "format 7 is of a later Covey"),
    "a wrong value": (
        a_round(1).to_json().replace('"bytes_up":40', '"bytes_up":"many"').encode(),
        "round.bytes_up: Input should be a valid integer, unable to parse string as an integer "
        "(found 'many')",
    ),
    "an unknown figure": (
        a_round(1).to_json().replace('"acc"', '"luck"').encode(),
        "round.received: no metric is called 'luck'",
    ),
    "a missing value": (b'{"event": "warning", "round": 2}', "warning.text: Field required"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_line_costs_itself_alone_and_is_told_and_kept(kind: str, tmp_path: Path) -> None:
    line, why = DAMAGES[kind]
    good = [a_round(1, "north"), a_round(2, "north"), a_round(3, "north")]
    write_record(tmp_path, a_run(), good)
    first, second, third = (tmp_path / EVENTS).read_bytes().splitlines()
    (tmp_path / EVENTS).write_bytes(b"\n".join([first, line, second, third, b""]))
    read = read_run(tmp_path)
    assert read.events == tuple(good)
    (told,) = read.damaged
    assert told.startswith("metrics.jsonl, line 2 is damaged: ") and why in told
    seen = list(Follower(tmp_path, at_end=False).events())
    assert [isinstance(event, Damaged) for event in seen] == [False, True, False, False]
    take_back(tmp_path, lambda event: event.round > 2)
    assert (tmp_path / EVENTS).read_bytes() == b"\n".join([first, line, second, b""])


def test_who_follows_a_run_gets_typed_events_and_those_that_are_done_again(tmp_path: Path) -> None:
    append_event(tmp_path, KINDS[0])
    follower = Follower(tmp_path)
    assert list(follower.events()) == []
    written = [append_event(tmp_path, event) for event in KINDS[1:]]
    assert list(follower.events()) == written
    take_back(tmp_path, lambda event: event.round > 0)
    assert list(follower.events()) == [written[1]]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"status": "lost"}, "status: Input should be 'running', 'finished' or 'failed'"),
        ({"sites": {"north": {"examples": 3, "side": "wide"}}}, "sites.north.side: "),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"format": 2}, "format 2 is of a later Covey, this one reads 1"),
        ({"plan": 3}, "plan: "),
    ],
)
def test_a_damaged_run_file_says_where(change: dict, why: str, tmp_path: Path) -> None:
    document = json.loads(a_run().to_json()) | change
    (tmp_path / SETTINGS).write_text(json.dumps(document))
    with pytest.raises(UserError) as caught:
        read_settings(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / SETTINGS} is damaged: {why}")
    assert "\n" not in str(caught.value)


def test_a_damaged_map_is_left_out_and_told(tmp_path: Path) -> None:
    write_record(tmp_path, a_run())
    (tmp_path / MAP).write_text(
        '{"method": "x", "images": 1, "x": [1], "y": [1, 2], "cluster": [0]}'
    )
    read = read_run(tmp_path)
    assert read.map is None
    assert read.damaged == ("map.json is damaged: its columns are not of one length",)


def test_no_other_code_opens_the_record() -> None:
    for room in ("benchmarks", "client", "common", "covey", "deploy", "server"):
        for path in (ROOT / room).rglob("*.py"):
            if path.parent == ROOT / "common" / "record":
                continue
            texts = {n.value for n in ast.walk(ast.parse(path.read_text()))
                     if isinstance(n, ast.Constant) and isinstance(n.value, str)}  # fmt: skip
            assert not texts & {SETTINGS, EVENTS, MAP}, path


def test_every_metric_has_a_name_a_direction_and_a_sentence() -> None:
    assert METRICS.keys() == {metric.key for metric in METRICS.values()}
    for metric in METRICS.values():
        assert metric.name and re.fullmatch(r"[A-Z].{20,}\.", metric.about), metric.key
    assert {m.better for m in FIGURES.values()} == {"higher", "neither"}
    told = a_stage(figures=dict.fromkeys(FIGURES, 0.5))
    assert isinstance(told, StageEvent)


def test_the_page_has_the_table_of_metrics() -> None:
    page = (ROOT / "docs/researcher/record.md").read_text()
    rows = re.findall(
        r"^\| `(\w+)` \| (.+) \| (.+) \| (higher|lower|neither) \| (.+) \|$", page, re.M
    )
    assert rows == [(m.key, m.name, m.unit or "–", m.better, m.about) for m in METRICS.values()]
