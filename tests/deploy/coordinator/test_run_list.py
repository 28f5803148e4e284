"""`covey runs` shows the scores that there are."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from deploy.coordinator.recorded import RecordedRun
from deploy.coordinator.run_list import RunLine, show_runs
from tests.builders.records import a_round, a_stage

LABELLED = RunLine("20261126-covey", "covey", "finished", 8, 8, "2026-11-26", 0.9, 0.94, 0.7)


def shown(*lines: RunLine) -> str:
    console = Console(width=80, record=True)
    show_runs(list(lines), console)
    return console.export_text()


def test_with_labels_it_shows_nmi_and_acc_and_else_agreement() -> None:
    text = shown(LABELLED)
    assert "NMI" in text and "0.940" in text and "agreement" not in text
    text = shown(replace(LABELLED, nmi=None, acc=None))
    assert "agreement" in text and "0.700" in text and "NMI" not in text


def test_a_run_that_has_not_begun_has_dashes() -> None:
    text = shown(replace(LABELLED, status="waiting", nmi=None, acc=None, agreement=None))
    assert "NMI" in text and text.count("–") == 2


def test_the_scores_are_the_last_that_a_run_recorded() -> None:
    stage = a_stage(figures={"acc": 0.9, "nmi": 0.8, "agreement": 0.7})
    labelled = [stage, a_round(4, received={"acc": 0.5, "nmi": 0.4, "std": 1.0})]
    assert RecordedRun(Path(), None, labelled[:1]).scores == {
        "acc": 0.9,
        "nmi": 0.8,
        "agreement": 0.7,
    }
    assert RecordedRun(Path(), None, labelled).scores == {"acc": 0.5, "nmi": 0.4}
    unlabelled = [a_stage(figures={"agreement": 0.7}), a_round(4, received={"std": 1.0})]
    assert RecordedRun(Path(), None, unlabelled).scores == {"agreement": 0.7}
    assert RecordedRun(Path(), None, unlabelled[1:]).scores == {}
