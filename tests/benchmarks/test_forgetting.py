"""The evidence for forgetting: what is taken back, and what is said of several seeds."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from common.data.partition import make_partition
from tests.benchmarks.scripts import script

forgetting = script("forgetting")
LABELS = np.arange(200) % 5
PARTITION = make_partition(LABELS, "dirichlet(0.5)", 4, 0)


@pytest.mark.parametrize("what", ["random", "site", "class"])
def test_what_is_taken_back_is_the_seeds_choice(what: str) -> None:
    found = [forgetting.chosen(what, PARTITION, LABELS, 30, seed) for seed in (*range(8), 0)]
    assert np.array_equal(found[0], found[-1])
    assert len({each.tobytes() for each in found}) > 2


def test_a_site_is_a_site_and_a_class_a_class() -> None:
    assert len(forgetting.chosen("random", PARTITION, LABELS, 30, 0)) == 30
    site = forgetting.chosen("site", PARTITION, LABELS, 30, 0)
    assert any(np.array_equal(site, part) for part in PARTITION.sites)
    of_class = forgetting.chosen("class", PARTITION, LABELS, 30, 0)
    assert len(of_class) == 40
    assert len(set(LABELS[of_class])) == 1
    with pytest.raises(typer.BadParameter):
        forgetting.chosen("everything", PARTITION, LABELS, 30, 0)


def test_rows_are_kept_and_not_made_again(tmp_path: Path, capsys) -> None:
    kept = tmp_path / "rows.json"
    given = {"datasets": "digits", "images": 400, "sites": 2, "random": 60, "json": kept}
    given |= {"partitions": "iid", "take": "random", "seeds": "0"}
    forgetting.main(**given)
    rows = json.loads(kept.read_text())
    assert [row["take"] for row in rows] == ["random"]
    assert all(each["same"] for each in rows[0]["audit"]["published"])
    first = capsys.readouterr().out
    forgetting.main(**given)
    assert json.loads(kept.read_text()) == rows
    second = capsys.readouterr().out
    assert "a run without the data" in first
    assert "a run without the data" not in second
    assert first.splitlines()[-1] == second.splitlines()[-1]
    assert "| AUC by landmarks: before |" in second and "| exact | 1 | 1 of 1 |" in second


def test_a_mean_stands_with_its_range() -> None:
    assert forgetting.spread([0.5]) == "0.500"
    assert forgetting.spread([0.4, 0.6, 0.5]) == "0.500 (0.400 to 0.600)"
