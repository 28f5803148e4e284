"""The report's parts: the order of its table, the ticks of its axes, how it writes numbers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.record.forgetting import Forgetting
from common.record.reader import RunRecord
from common.record.schema import SiteFacts
from server.report import formats, render
from server.report.clusters import order
from server.report.headline import stage_table
from server.report.svg import ticks
from tests.builders.records import a_round, a_run, a_stage

small = st.tuples(st.integers(1, 5), st.integers(1, 5))


@settings(deadline=None)
@given(arrays(np.int64, small, elements=st.integers(0, 50)))
def test_the_order_of_the_table_loses_nothing_and_no_other_has_a_heavier_diagonal(table) -> None:
    placed = order(table)
    clusters, classes = table.shape
    assert sorted(placed.rows) == list(range(clusters))
    assert sorted(placed.columns) == list(range(classes))
    pairs = zip(placed.rows[: placed.matched], placed.columns, strict=False)
    wide = table if clusters <= classes else table.T
    choices = itertools.permutations(range(wide.shape[1]), wide.shape[0])
    best = max(sum(wide[row, at] for row, at in enumerate(choice)) for choice in choices)
    assert sum(table[row, column] for row, column in pairs) == best


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 9))
def test_ticks_are_few_even_and_within_the_range(low, span, most) -> None:
    marks = ticks(low, low + span, most)
    assert len(marks) <= most + 1
    slack = 1e-6 * (span + abs(low))
    assert all(low - slack <= mark <= low + span + slack for mark in marks)
    assert np.ptp(np.diff(marks)) <= slack if len(marks) > 2 else True


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formats.score(0.8123), "0.812"),
        (formats.score(float("nan")), formats.NONE),
        (formats.size(999), "999 B"),
        (formats.size(1_234_567), "1.2 MB"),
        (formats.duration(0.04), "40 ms"),
        (formats.duration(59.97), "1 min 00 s"),
        (formats.duration(125), "2 min 05 s"),
        (formats.duration(11_520), "3 h 12 min"),
        (formats.number(23.41), "23.4"),
        (formats.number(0.00002), f"2.0e{formats.MINUS}05"),
        (formats.count(True), formats.NONE),
        (formats.mark("2.0 MB"), "2 MB"),
    ],
)
def test_numbers_are_written_for_people(written, expected) -> None:
    assert written == expected


def test_figures_from_labels_say_how_many_images_are_behind_them_and_the_largest_class() -> None:
    table = ((5, 1), (1, 3))
    run = a_run(classes=("a", "b"))
    stage = a_stage("north", table=table, labelled=1, figures={"acc": 0.8})
    told = render(RunRecord(run, (stage,)))
    assert f"over 10 images with labels, at 1 of {len(run.sites)} site" in told
    assert "largest class is 0.600" in told
    earlier = render(RunRecord(run, (a_stage("north", table=table, figures={"acc": 0.8}),)))
    assert "over 10 images with labels. Their" in earlier  # a record without that number
    without = render(RunRecord(a_run(), (a_stage("north", figures={"agreement": 0.8}),)))
    assert "images with labels" not in without


def test_a_stage_that_came_after_the_plan_has_its_row_in_the_table() -> None:
    first = a_stage("north", figures={"acc": 0.931})
    later = a_stage("north", figures={"acc": 0.895}, stage=1, stage_name="split of 0")
    plan = {"stages": [{"name": "clusters", "rounds": 0}]}
    record = RunRecord(a_run(plan=plan), (first, later))
    rows = stage_table(record).rows
    assert [row.name for row in rows] == ["clusters", "split of 0"]
    assert rows[0].marks[0] and "0.895" in rows[1].values and not rows[1].marks[0]


def test_a_simulations_bytes_are_called_simulated() -> None:
    events = (a_round(1, "north"),)
    told = render(RunRecord(a_run(engine="in-process"), events))
    assert "would be sent" in told and "Simulated: counted as if" in told
    real = render(RunRecord(a_run(engine="server"), events))
    assert "would be sent" not in real and "Simulated" not in real


def test_a_report_says_who_has_taken_back_how_many_in_all() -> None:
    sites = {"north": SiteFacts(examples=90, withdrawn=10), "south": SiteFacts(examples=100)}
    run = a_run(sites=sites)
    told = render(RunRecord(run, ()))
    assert "taken back in all" in told and "north: 10<" in told and "south: 0" not in told
    before = {"north": 6, "east": 50}
    since = Forgetting(of="a", method="exact", images={"north": 4}, earlier=before)
    assert a_run(sites=sites, forgetting=since).withdrawn == {"east": 50, "north": 10}
    let_in = {"north": SiteFacts(examples=100)}
    assert a_run(sites=let_in, forgetting=since).withdrawn == {"east": 50}
    assert "taken back" not in render(RunRecord(a_run(), ()))
