"""`covey recipes` can be read in a narrow and in a wide terminal."""

import io

import pytest
from rich.console import Console

from common.config import recipes
from deploy.cli.recipes import FAMILIES, FIRST, list_recipes


@pytest.mark.parametrize("width", [80, 120])
def test_no_name_is_cut_no_line_too_wide_and_every_recipe_stands_under_its_family(
    width: int,
) -> None:
    console = Console(file=io.StringIO(), width=width)
    rows = list_recipes(console, everything=True)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width and "…" not in console.file.getvalue()
    headings = {family: family for family in FAMILIES}
    headings["published protocols"] = "published protocol"
    found, family = {}, ""
    for line in lines:
        if line.rstrip() in headings:  # at the margin; such a word may be in a title
            family = headings[line.rstrip()]
        elif line[:1].strip():
            found[line.split()[0]] = family
    assert {row["name"]: row["family"] for row in rows}.items() <= found.items()
    assert [row["name"] for row in rows] == recipes.names()


@pytest.mark.parametrize("width", [60, 80])
def test_the_short_list_says_where_to_start_and_how_to_see_the_rest(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    rows = list_recipes(console)
    text = console.file.getvalue()
    assert [row["name"] for row in rows] == recipes.names()  # for programs: all
    assert [row["name"] for row in rows if row["default"]] == [recipes.DEFAULT]
    lines = text.splitlines()
    assert max(map(len, lines)) <= width and "…" not in text
    assert lines[0].split()[0] == recipes.DEFAULT and "start here" in lines[0]
    for name in FIRST:
        assert any(line.split()[:1] == [name] for line in lines), name
    assert "covey recipes --all" in " ".join(text.split())
