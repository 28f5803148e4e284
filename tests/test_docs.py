"""What the documents say, works: the walk-through of a new objective, commands and links."""

import re
from pathlib import Path

import pytest

import common.objectives
from common import recipes
from deploy.simulate import simulate
from server.report import read_run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def block(page: str, language: str) -> str:
    text = (ROOT / "docs" / page).read_text()
    found = re.search(rf"```{language}\n(.*?)```", text, re.S)
    assert found
    return found[1]


def test_the_walk_through_of_a_new_objective_runs(tmp_path: Path, monkeypatch) -> None:
    module: dict[str, object] = {"__name__": "align"}
    exec(block("researcher.md", "python"), module)  # the page's own code
    monkeypatch.setitem(common.objectives.OBJECTIVES, "align", module["Align"])
    recipe = tmp_path / "align.toml"
    recipe.write_text(block("researcher.md", "toml"))
    tiny = {"images": 120, "sites": 2, "rounds": 2, "batch-size": 32}
    simulate(recipes.load(str(recipe)).plan(tiny), tmp_path / "run")
    (stage,) = read_run(tmp_path / "run").stages
    assert stage["stage_name"] == "representation"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_script_and_recipe_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    for script in re.findall(r"benchmarks/\w+\.py", text):
        assert (ROOT / script).exists(), script
    for recipe in re.findall(r"covey (?:run|simulate|submit) (fed\w+)", text):
        assert recipe in recipes.names()
