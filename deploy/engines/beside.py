"""`covey run --beside RECIPE`: what another recipe makes of the same images at the same sites.

It runs in this process: the bits are those of a federation of processes, and nothing is waited for.
"""

from pathlib import Path

from rich.console import Console

from common.config.images import kebab
from common.config.options import Plan
from common.config.recipes import Recipe
from common.record.reader import read_run
from deploy.engines.runs import new_folder
from deploy.engines.simulate import simulate
from deploy.terminal.progress import show_result
from server.report import write_report

ALIKE = (
    "dataset", "images", "side", "colours", "fit", "window", "background", "pages", "largest",
    "copies", "sites", "alone", "partition", "size_skew", "seed", "views", "clusters",
    "min_count", "evaluation_share", "device",
)  # fmt: skip
"""What the two have in common: the images, who has them, how clusters are judged."""


def beside(recipe: Recipe, plan: Plan, runs: Path, console: Console) -> Path:
    """Run `recipe` as `plan` was run, into a folder of its own in `runs`, and show its figures;
    the folder."""
    given = {kebab(name): getattr(plan, name) for name in ALIKE}
    other = recipe.plan({k: v for k, v in given.items() if k not in recipe.document})
    folder = new_folder(runs, other.recipe, None)
    simulate(other, folder)
    write_report(folder)
    console.print(f"beside it, on the same images and in this process: {recipe.name}", style="dim")
    show_result(console, read_run(folder))
    return folder
