"""What training adds is told seed by seed, on images that no site has."""

import math

import pytest

from tests.benchmarks.scripts import script

training_adds = script("training_adds")


def row(recipe, seed, rounds, own, new, dataset="mnist", partition="iid", encoder="small-convnet"):
    facts = {"recipe": recipe, "dataset": dataset, "partition": partition, "seed": seed}
    figures = {"rounds": rounds, "nmi": own, "test_nmi": new, "test_acc": 0.5}
    return {**facts, "encoder": encoder, **figures}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_difference_is_taken_within_a_seed_that_both_have() -> None:
    rows = [
        row("fedsimclr", 0, 10, 0.50, 0.40),
        row("fedsimclr", 1, 10, 0.60, 0.52),
        row("fedsimclr", 2, 10, 0.90, 0.90),  # without its counterpart
        row("fedsimclr", 0, 0, 0.45, 0.38),
        row("fedsimclr", 1, 0, 0.55, 0.48),
    ]
    _, _, line = training_adds.table(rows, 10)
    found = cells(line)
    assert found[:4] == ["fedsimclr", "mnist", "iid", "2"]
    assert found[4:6] == [".550±.071", ".460±.085"]
    assert found[7:] == [".500±.071", ".430±.071", "+.030±.014"]


def test_what_trains_nothing_and_what_was_not_run_without_training_are_said_so() -> None:
    rows = [row("fedsimclr", 0, 10, 0.5, 0.4), row("fedkmeans-pixels", 0, 0, 0.3, 0.45)]
    _, _, first, second = training_adds.table(rows, 10)
    assert cells(first)[0] == "fedkmeans-pixels" and cells(first)[7] == "nothing is trained"
    assert cells(second)[7:] == ["–", "–", "–"]


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_loss_is_shown_as_one(sign) -> None:
    rows = [row("covey", 0, 10, 0.5, 0.5), row("covey", 0, 0, 0.5, 0.5 - sign * 0.02)]
    _, _, line = training_adds.table(rows, 10)
    assert cells(line)[-1] == ("+.020" if sign > 0 else "-.020")


def test_another_encoder_is_another_line_but_for_one_that_nothing_trains() -> None:
    rows = [
        row("covey", 0, 10, 0.5, 0.4),
        row("covey", 0, 10, 0.5, 0.3, encoder="layered-convnet"),
        row("covey-exact", 0, 0, 0.5, 0.2, encoder="noise-filters"),
    ]
    _, _, *lines = training_adds.table(rows, 10)
    assert [cells(line)[0] for line in lines] == ["covey", "covey, layered-convnet", "covey-exact"]


def test_rows_from_before_the_column_have_none(tmp_path) -> None:
    methods = script("methods")
    path = tmp_path / "methods.csv"
    full = dict.fromkeys(methods.COLUMNS, 0) | row("covey", 0, 10, 0.5, math.nan)
    full |= {"encoder": "small-convnet", "commit": "abc"}
    path.write_text(methods.as_csv([full]))
    assert ",,abc" in path.read_text() or ",abc" in path.read_text()
    (back,) = methods.read_rows(path)
    assert math.isnan(back["test_nmi"]) and back["nmi"] == 0.5
