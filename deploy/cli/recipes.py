"""`covey recipes`: every method, family by family, and the published protocols."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from common.config import recipes
from common.config.recipes import Recipe

FAMILIES = (
    "baseline",
    "contrastive",
    "non-contrastive",
    "redundancy reduction",
    "quantised",
    "clustering",
    "two-stage",
    "merge and aggregation rules",
    "federated k-means",
    "shared moments",
)
"""In the order of the list and of docs/researcher/methods.md."""


def list_recipes(console: Console) -> list[dict[str, Any]]:
    """Print all recipes and return one row for each."""
    known = [recipes.load(name) for name in recipes.names()]
    methods = [one for one in known if not one.name.startswith(recipes.PUBLISHED)]
    width = max(len(one.name) for one in methods)
    for family in FAMILIES:
        members = [one for one in methods if one.family == family]
        console.print(_methods(family, sorted(members, key=lambda one: one.name), width))
    console.print(_protocols([one for one in known if one not in methods]))
    return [
        {
            "name": one.name,
            "title": one.title,
            "family": one.family,
            "shared": one.shared,
            "source": one.source,
            "stages": [stage.method for stage in one.plan().stages],
        }
        for one in known
    ]


def _methods(family: str, members: Sequence[Recipe], width: int) -> Table:
    """One family; `width` of the names is the same for all, so that columns are in line."""
    table = Table(
        Column(style="bold", width=width, no_wrap=True),
        Column(ratio=1),
        Column(ratio=1),
        title=f"\n{family}",
        title_justify="left",
        show_header=False,
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        expand=True,
    )
    for one in members:
        shared = (f"shares {one.shared}", "dim")
        table.add_row(one.name, Text.assemble(one.title, "\n", shared), one.source)
    return table


def _protocols(protocols: Sequence[Recipe]) -> Table:
    table = Table(
        Column("recipe", style="bold", no_wrap=True),
        *("data", "sites", "rounds"),
        title="\npublished protocols",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for one in protocols:
        plan = one.plan()
        sites = f"{plan.sites}, {plan.partition}"
        rounds = f"{plan.rounds} × {plan.stages[0].local_epochs}"
        table.add_row(one.name, plan.dataset, sites, rounds)
    return table
