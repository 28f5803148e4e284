"""Arms with equally many steps, rows that are not made again, a table over the seeds."""

from pathlib import Path

import pytest
import typer

from tests.benchmarks.scripts import script

steps_a_round = script("steps_a_round")
KEY = {
    "dataset": "digits",
    "images": 400,
    "sites": 4,
    "encoder": "small-convnet",
    "steps": 8,
    "batch": 64,
    "objective": "spectral-contrastive",
    "with": "gradients=int8",
    "partition": "iid",
    "seed": 3,
}


def row(**more: object) -> dict[str, str]:
    figures = dict.fromkeys(steps_a_round.FIGURES, "0")
    return {name: str(value) for name, value in {**KEY, **figures, **more}.items()}


@pytest.mark.parametrize("arm", ["sync", "pooled", "1", "4", "8"])
def test_every_arm_takes_as_many_steps_on_as_many_images(arm: str) -> None:
    plan = steps_a_round.planned({**KEY, "arm": arm})
    stage = plan.stages[1]
    assert stage.rounds * (1 if arm == "sync" else stage.local_steps) == 8
    assert stage.batch_size * (1 if arm == "sync" else plan.sites) == 64
    assert (stage.schedule, stage.gradients, plan.seed) == ("constant", "int8", 3)


def test_none_trains_nothing_and_uneven_rounds_are_refused() -> None:
    assert steps_a_round.planned({**KEY, "arm": "none"}).rounds == 0
    with pytest.raises(typer.BadParameter, match="8 steps are no whole number of rounds of 3"):
        steps_a_round.planned({**KEY, "arm": "3"})


def test_rows_that_are_there_are_not_made_again(tmp_path: Path, monkeypatch, capsys) -> None:
    made = []
    figures = dict.fromkeys(steps_a_round.FIGURES, 0)
    monkeypatch.setattr(steps_a_round, "measured", lambda key: made.append(key["seed"]) or figures)
    for seeds in ("0,1", "1,2"):
        steps_a_round.main("digits", arms="sync", partitions="iid", seeds=seeds,
                           csv=tmp_path / "rows.csv")  # fmt: skip
    assert made == [0, 1, 2]
    assert "| iid | sync, spectral-contrastive | 3 | 0 | 0 | .000±.000" in capsys.readouterr().out


def test_the_table_has_mean_and_deviation_over_the_seeds_from_few_exchanges_to_many() -> None:
    rows = [
        row(arm="sync", exchanges="16", NMI="0.5"),
        row(arm="4", exchanges="4", NMI="0.2"),
        row(arm="4", exchanges="4", NMI="0.4", seed=4),
    ]
    first, second = list(steps_a_round.table(rows))[2:]
    assert "| 4, spectral-contrastive, gradients=int8 | 2 | 4 | 0 | .300±.141 |" in first
    assert "| sync, spectral-contrastive, gradients=int8 | 1 | 16 | 0 | .500 |" in second
