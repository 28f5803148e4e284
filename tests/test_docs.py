"""What the documents say, works: the walk-through of a new objective, commands, links, and the
tables of docs/researcher/methods.md, which say of each recipe what the recipe and its
modules say."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import recipes
from common.record.reader import read_run
from common.stages import build_stage
from deploy.cli.recipes import FAMILIES
from tests.builders import exchange_table
from tests.builders.pages import anchors, printed_steps
from tests.wheel import packages

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
METHODS = [name for name in recipes.names() if not name.startswith(recipes.PUBLISHED)]
WORDS = {  # of modules, where a page has another name for them
    "target": "target network",
    "rotation": "rotation head",
    "cluster_head": "cluster head",
    "moment": "second moment",
}


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


@pytest.mark.parametrize(
    ("added", "closing"), [("objectives/align.py", 0), ("solvers/whitening.py", 3)]
)
def test_the_walk_through_of_a_new_objective_or_solver_takes_one_file_and_one_recipe(
    added: str, closing: int, tmp_path: Path
) -> None:
    """The objective with covey's start and second half, as the page has it further up; the solver
    after the objective."""
    checkout = tmp_path / "covey"
    for room in ("client", "common", "deploy", "server"):
        shutil.copytree(ROOT / room, checkout / room)
    align, whitening = blocks("researcher/guide.md", "python")
    files = {"objectives/align.py": align, "solvers/whitening.py": whitening}
    for name in files if closing else [added]:
        (checkout / "common" / name).write_text(files[name])
    stages = blocks("researcher/guide.md", "toml")
    start, recipe = stages[1:3]
    started = recipe.replace("[[stages]]", f"{start}\n[[stages]]", 1)
    (tmp_path / "toy.toml").write_text(started + "\n" + stages[closing])
    options = ["--images=120", "--sites=2", "--rounds=2", "--batch-size=32", "--run-folder=run"]
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "simulate", "./toy.toml", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(checkout), "COVEY_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ended = read_run(tmp_path / "run").stages
    assert [stage.stage_name for stage in ended] == ["start", "representation", "clusters"]


def test_the_tables_of_what_leaves_a_site_are_those_that_are_declared() -> None:
    page = exchange_table.PAGE.read_text()
    assert exchange_table.between(page) == exchange_table.tables()


def test_the_walk_through_of_a_new_exchange_takes_a_declaration_and_two_functions(
    tmp_path: Path,
) -> None:
    checkout = tmp_path / "covey"
    for room in ("client", "common", "deploy", "server"):
        shutil.copytree(ROOT / room, checkout / room)
    declaration, at_the_site, at_the_server = blocks("researcher/exchanges.md", "python")
    exchanges = checkout / "common/protocol/exchanges.py"
    exchanges.write_text(f"{exchanges.read_text()}\n\n{declaration}")
    (checkout / "client/tasks/brightness.py").write_text(at_the_site)
    (checkout / "server/conclusions/brightness.py").write_text(at_the_server)
    options = ["--images=120", "--sites=2", "--rounds=1", "--batch-size=32", "--run-folder=run"]
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "simulate", "fedsimclr", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(checkout), "COVEY_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, last = (json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open())
    assert 0 < last["figures"]["brightness"] < 1
    assert "Light told" in (tmp_path / "run/report.html").read_text()
    left = [json.loads(line) for line in (tmp_path / "run/sites/site-0/left.jsonl").open()]
    assert left[-1]["kind"] == "brightness"
    assert left[-1]["parts"] == {"images by cluster": [10, 1], "light": [10], "glare": [10]}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        if "://" not in target:
            file = page.parent / target if target else page
            assert file.exists(), target
            assert not heading or heading in anchors(file), (target, heading)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_script_and_recipe_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    for file in re.findall(r"(?:benchmarks|client|common|deploy|server|tests)/[\w/]+\.py", text):
        assert (ROOT / file).exists(), file
    for recipe in re.findall(r"covey (?:run|simulate|submit) (\w[\w/+-]*)", text):
        assert recipe in recipes.names(), recipe


def test_the_steps_of_coordinator_and_site_have_commands_for_both_in_one_order() -> None:
    """`make hosts-test` types them (tests/hosts/test_newcomer.py)."""
    steps = printed_steps()
    assert all(line.startswith("covey ") for _, line in steps)
    did = [(who, *line.split()[1:3]) for who, line in steps]
    assert did == [
        ("Coordinator", "server", "init"),
        ("Coordinator", "server", "start"),
        ("Coordinator", "server", "invite"),
        ("Coordinator", "server", "sites"),
        ("Site", "client", "join"),
        ("Coordinator", "submit", "fedsimclr"),
        ("Site", "client", "log"),
    ]


def test_the_index_comes_to_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    links = re.findall(r"\]\(([^)#]+)", index.read_text())
    listed = {(index.parent / link).resolve() for link in links}
    pages = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert [page for page in pages if page not in {*listed, index}] == []


def test_the_page_of_results_can_be_read_in_one_go() -> None:
    assert len((ROOT / "docs" / "results.md").read_text().splitlines()) <= 120


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of docs/researcher/methods.md, without its head."""
    text = (ROOT / "docs" / "researcher" / "methods.md").read_text()
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.S | re.M)
    assert section, heading
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_recipe_has_its_row_in_its_family_and_every_row_is_a_recipe() -> None:
    found = {cells[0].strip("`"): family for family in FAMILIES for cells in rows(family)}
    assert found == {name: recipes.load(name).family for name in METHODS}
    assert sum(len(rows(family)) for family in FAMILIES) == len(METHODS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_says_what_the_recipe_says_and_what_its_modules_are(family: str) -> None:
    for name, title, shared, stays, source in rows(family):
        recipe = recipes.load(name.strip("`"))
        assert (title, shared, source) == (recipe.title, recipe.shared, recipe.source)
        kept: set[str] = set()
        plan = recipe.plan({} if recipe.document.get("encoder") else {"encoder": "small-convnet"})
        for index, stage in enumerate(plan.stages):
            objective = build_stage(plan, index, channels=1, side=8, clusters=4)
            kept |= {WORDS.get(module, module) for module in objective.local()}
            kept |= {"own model"} if stage.merge != "replace" else set()
            if not shared.startswith("nothing"):
                sent = [n for n, m in objective.shared().items() if m.state_dict()]
                assert all(m in shared or WORDS[m] in shared for m in sent), name
        assert set(stays.split(", ")) == (kept or {"nothing"}), name


def test_every_recipe_has_proofs_and_every_proof_is_a_test() -> None:
    proved = rows("What proves them")
    named = [name for cells in proved for name in re.findall(r"`([^`]+)`", cells[0])]
    assert sorted(named) == sorted(METHODS)
    for _, *proofs in proved:
        assert all(proofs)
        for file, test in re.findall(r"`(\S+\.py)::(\w+)`", " ".join(proofs)):
            assert f"\ndef {test}(" in (ROOT / file).read_text(), test


def imported(room: str) -> Iterator[str]:
    """The top-level names that a room's files import."""
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def test_every_package_that_is_imported_or_required_has_its_reason() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    cells = re.findall(r"^\| ([\w, -]+) \|", page, re.M)
    listed = {name.lower().replace("_", "-") for cell in cells for name in cell.split(", ")}
    rooms = packages()
    names = {name for room in rooms for name in imported(room)} - {*sys.stdlib_module_names, *rooms}
    brought_by = importlib.metadata.packages_distributions()
    unlisted = [
        name
        for name in sorted(names)
        if not listed & {one.lower().replace("_", "-") for one in brought_by.get(name, [name])}
    ]
    assert unlisted == [], "each needs a row in docs/dependencies.md"
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for package in required:
        name = re.match(r"[\w-]+", package)
        assert name and name[0] in listed, package
