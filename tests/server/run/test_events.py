"""TensorBoard reads back every number, and a run that was killed goes on in the same file."""

import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.record.metrics import COSTS, FIGURES
from common.record.schema import WarningEvent
from server.run.events import FILE, Events
from tests.builders.records import a_round
from tests.server.sample_run import SampleRun


def write(folder, events) -> None:
    for event in events:
        writer = Events(folder)
        writer.write(event)
        writer.close()


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = read.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in tags}


def test_losses_stand_at_their_round_and_received_figures_one_before(tmp_path) -> None:
    run = SampleRun()
    write(tmp_path, run.typed)
    read = scalars(tmp_path)
    rounds = [event for event in run.events if event["event"] == "round"]
    for tag, shift, values in (
        ("loss/loss", 0, [e["loss"]["loss"] for e in rounds]),
        ("received/acc", -1, [e["received"]["acc"] for e in rounds]),
        ("seconds/train", 0, [e["seconds"]["train"] for e in rounds]),
        ("bytes/down", 0, [e["bytes_down"] for e in rounds]),
        ("sites/answered", 0, [4] * 12),
    ):
        assert [step for step, _ in read[tag]] == [n + shift for n in range(1, 13)], tag
        assert [value for _, value in read[tag]] == pytest.approx(values), tag
    ends = [event for event in run.events if event["event"] == "stage"]
    assert read["stage/knn"] == [(e["round"], pytest.approx(e["figures"]["knn"])) for e in ends]


def test_tensorboard_says_what_a_number_means(tmp_path) -> None:
    write(tmp_path, SampleRun(rounds=3).typed)
    read = EventAccumulator(str(tmp_path)).Reload()
    told = {tag: read.SummaryMetadata(tag).summary_description for tag in read.Tags()["scalars"]}
    assert told["received/nmi"] == FIGURES["nmi"].about
    assert told["loss/contrast"] == COSTS["loss"].about
    assert told["bytes/up"] == COSTS["bytes_up"].about
    assert all(told.values())


def test_values_that_are_not_finite_numbers_are_passed_over(tmp_path) -> None:
    loss = {"loss": 1.5, "a": float("nan"), "b": float("inf"), "c": None}
    write(tmp_path, [a_round(1, loss=loss), WarningEvent(round=1, text="x")])
    read = scalars(tmp_path)
    assert [tag for tag in read if tag.startswith("loss/")] == ["loss/loss"]


def test_a_run_is_one_file_however_often_it_is_opened(tmp_path) -> None:
    write(tmp_path, SampleRun().typed)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("cut", [1, 4, 9, 40])
def test_a_record_cut_by_a_kill_does_not_spoil_what_follows(cut, tmp_path) -> None:
    events = SampleRun(rounds=3).typed
    write(tmp_path, events[:2])
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-cut])
    write(tmp_path, events[1:])
    assert [step for step, _ in scalars(tmp_path)["loss/loss"]] == [1, 2, 3]


def test_a_round_done_again_replaces_the_one_before(tmp_path) -> None:
    events = SampleRun(rounds=3).typed
    again = events[1].model_copy(update={"loss": {"loss": 9.25}})
    write(tmp_path, [*events, again])
    assert scalars(tmp_path)["loss/loss"][1:] == [(2, 9.25)]


def test_torch_is_not_needed() -> None:
    code = "import sys, server.run.events; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
