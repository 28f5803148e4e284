"""`covey compare`: what tells runs apart, in the terminal, as a page and for programs."""

import json
from pathlib import Path

import pytest

from tests.builders.browser import addresses
from tests.builders.records import a_round, a_run, a_stage, write_record
from tests.deploy.helpers import covey as command

TABLES = {"one": ((5, 1), (1, 3)), "other": ((6, 0), (0, 4))}


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs that differ in a seed, a rate and a method."""
    found = []
    for number, (name, table) in enumerate(TABLES.items()):
        stage = {"objective": ("simclr", "byol")[number], "rounds": 3, "learning-rate": 0.1}
        plan = {"dataset": "digits", "seed": number, "encoder": "convnet", "stages": [stage]}
        engine = ("in-process", "server")[number]
        run = a_run(plan=plan, classes=("a", "b"), engine=engine, recipe="fedsimclr")
        figures = {"nmi": (0.25, 0.75)[number], "std": 0.9}
        events = [a_round(1, "north"), a_stage("north", table=table, figures=figures)]
        found.append(write_record(tmp_path / name, run, events))
    return found


def test_settings_that_differ_figures_and_costs_stand_side_by_side(runs, tmp_path, capsys) -> None:
    page, told = tmp_path / "compare.html", tmp_path / "compare.json"
    words = ("compare", *map(str, runs), "-o", str(page), "--json", str(told))
    code, out, err = command(capsys, *words)
    assert (code, err) == (0, "")
    found = json.loads(told.read_text())
    settings, figures, costs = found.values()
    assert settings.keys() == {"seed", "stage 1: objective"}
    assert settings["stage 1: objective"] == {"one": "simclr", "other": "byol"}
    assert figures["NMI"] == {"one": "0.250", "other": "0.750"}
    assert figures["images with labels"] == {"one": "10", "other": "10"}
    assert figures["largest class"] == {"one": "0.600", "other": "0.600"}
    assert costs["bytes, both ways"] == {"one": "200 B (simulated)", "other": "200 B"}
    assert "0.750*" in out and "0.250*" not in out and "0.900*" not in out
    html = page.read_text()
    assert addresses(html) == set() and "<script" not in html
    assert html.count('class="best"') == 1 and "normalised mutual information" in html


def test_what_cannot_be_compared_is_one_line(runs, tmp_path, capsys) -> None:
    assert command(capsys, "compare", str(runs[0]))[0] == 2
    code, _, err = command(capsys, "compare", str(runs[0]), str(tmp_path))
    assert code == 2 and "holds no run" in err and err.count("\n") == 1


def test_names_in_the_page_are_texts(runs, tmp_path, capsys) -> None:
    hostile = runs[0].rename(tmp_path / "<img src=x>")
    page = tmp_path / "compare.html"
    command(capsys, "compare", str(hostile), str(runs[1]), "-o", str(page))
    assert "<img" not in page.read_text() and "&lt;img src=x&gt;" in page.read_text()
