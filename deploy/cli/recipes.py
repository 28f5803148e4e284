"""`covey recipes`: where to start; with `--all` every method, family by family, and the published
protocols."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from common.config import recipes
from common.config.recipes import Recipe
from deploy.terminal.table import show_table

FIRST = {
    recipes.DEFAULT: "the default: start here; what a method that trains has to beat",
    "covey": "the whole system: the encoder is trained and averaged, too",
    "covey-sync": "covey, trained in steps on all sites' images",
    "fedsimclr": "the usual contrastive baseline",
    "fedbyol": "the usual non-contrastive baseline",
    "fedmcc": "two stages: contrastive, then clustering",
    "orchestra": "clusters that the sites agree on while they train",
    "fedkmeans-pixels": "no network: what every method has to beat",
    "standalone": "the floor: one site by itself",
    "centralised": "the ceiling: all images in one place",
}
"""The short list, and why."""
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
WIDE = 100  # columns from which the source stands beside


def list_recipes(console: Console, everything: bool = False) -> list[dict[str, Any]]:
    """Print the first recipes, or all, and return one row for each that there is."""
    known = [recipes.load(name) for name in recipes.names()]
    if everything:
        _show_all(known, console)
    else:
        _show_first(known, console)
    return [
        {
            "name": one.name,
            "default": one.name == recipes.DEFAULT,
            "title": one.title,
            "family": one.family,
            "shared": one.shared,
            "source": one.source,
            "stages": [stage.method for stage in one.plan().stages],
        }
        for one in known
    ]


def _show_first(known: Sequence[Recipe], console: Console) -> None:
    by_name = {one.name: one for one in known}
    grid = Table(Column(style="bold", no_wrap=True), Column(ratio=1), box=None, show_header=False)
    for name, why in FIRST.items():
        grid.add_row(name, Text.assemble(why, "\n", (by_name[name].title, "dim")))
    console.print(grid)
    for line in (
        "Start: covey simulate RECIPE, or covey run RECIPE.",
        f"All {len(known)}, with what their sites share and their papers: covey recipes --all.",
        "One of your own: covey simulate ./NAME.toml.",
    ):
        console.print(line, highlight=False, markup=False)


def _show_all(known: Sequence[Recipe], console: Console) -> None:
    methods = [one for one in known if not one.name.startswith(recipes.PUBLISHED)]
    width = max(len(one.name) for one in methods)
    for family in FAMILIES:
        members = sorted((one for one in methods if one.family == family), key=lambda one: one.name)
        console.print(_methods(family, members, width, console.width >= WIDE))
    rows = [_protocol(one) for one in known if one not in methods]
    heads = ("recipe", "data", "sites", "rounds")
    show_table(console, heads, rows, title="published protocols")


def _methods(family: str, members: Sequence[Recipe], width: int, wide: bool) -> Table:
    """One family; `width` of the names is the same for all, so that columns are in line."""
    table = Table(
        Column(style="bold", width=width, no_wrap=True),
        *[Column(ratio=1)] * (2 if wide else 1),
        title=f"\n{family}",
        title_justify="left",
        show_header=False,
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        expand=True,
    )
    for one in members:
        default = (" (the default)", "bold") if one.name == recipes.DEFAULT else ""
        what = Text.assemble(one.title, default, "\n", (f"shares {one.shared}", "dim"))
        if wide:
            table.add_row(one.name, what, one.source)
        else:
            table.add_row(one.name, Text.assemble(what, "\n", (one.source, "dim")))
    return table


def _protocol(one: Recipe) -> tuple[str, ...]:
    plan = one.plan()
    sites = f"{plan.sites}, {plan.partition}"
    return (one.name, plan.dataset, sites, f"{plan.rounds} × {plan.stages[0].local_epochs}")
