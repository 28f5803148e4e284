"""`progress.json` says what a run is doing, costs it nothing, and is gone with it."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from deploy.engines.simulate import simulate
from server.run import progress
from server.run.progress import FILE, JOIN, Progress, ProgressFile, read_progress
from tests.builders.runs import plan

TRAINING = Progress("train", "representation", 3, 10, 0, 4)


def test_what_is_written_is_read_and_gone_when_the_run_is_over(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(progress, "OFTEN", 0.0)
    file = ProgressFile(tmp_path)
    assert read_progress(tmp_path) is None
    file.begin(TRAINING)
    first = read_progress(tmp_path)
    assert first is not None and first.since > 0
    assert first == Progress(**{**asdict(TRAINING), "since": first.since})
    file.count(3)
    assert read_progress(tmp_path) == Progress(**{**asdict(first), "answered": 3})
    file.end()
    assert list(tmp_path.iterdir()) == []


def test_many_answers_are_few_writes_but_the_last_is_always_seen(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path)
    file.begin(Progress("score", asked=500))
    seen = []
    for answered in range(1, 501):
        file.count(answered)
        seen.append(read_progress(tmp_path).answered)  # type: ignore[union-attr]
    assert seen[-1] == 500
    assert len(set(seen)) < 100


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"kind": "train"}',
        json.dumps({**asdict(TRAINING), "asked": "4"}),
        json.dumps({**asdict(TRAINING), "round": True}),
        json.dumps({**asdict(TRAINING), "stage": 3}),
        b"\xff",
    ],
)
def test_a_file_that_is_cut_or_another_ones_says_nothing(content, tmp_path: Path) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / FILE).write_bytes(data)
    assert read_progress(tmp_path) is None


def test_a_folder_that_takes_no_file_ends_no_run(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "gone")
    file.begin(TRAINING)
    file.count(4)
    file.end()


def test_a_run_says_each_step_with_who_is_asked_and_who_has_answered(
    tmp_path: Path, monkeypatch
) -> None:
    told: list[Progress] = []
    write = ProgressFile._write

    def telling(file: ProgressFile, now: Progress) -> None:
        write(file, now)
        found = read_progress(tmp_path)
        assert found == now
        told.append(found)

    monkeypatch.setattr(progress, "OFTEN", 0.0)
    monkeypatch.setattr(ProgressFile, "_write", telling)
    simulate(plan("fedkmeans"), tmp_path)
    assert [(now.answered, now.asked) for now in told if now.kind == JOIN] == [(0, 2), (2, 2)]
    rounds = [
        (now.round, now.rounds, now.answered, now.asked) for now in told if now.kind == "train"
    ]
    assert rounds == [(number, 2, answered, 2) for number in (1, 2) for answered in (0, 1, 2)]
    steps = [now.step for now in told if now.kind == "lloyd" and now.answered == 2]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > 1
    assert {now.stage for now in told if now.kind != JOIN} == {"representation", "clusters"}
    assert not (tmp_path / FILE).exists()
