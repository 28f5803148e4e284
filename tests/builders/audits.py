"""Pairs of runs: one with all images, one made in its place without some of them."""

from pathlib import Path

import numpy as np

from client.workbench import Workshop, pick_device
from common.data.partition import Partition
from common.data.planned import planned_data
from common.record.reader import read_settings
from deploy.engines.in_process import grid_of, sites_of
from deploy.engines.simulate import simulate
from server.app import run
from server.run.folder import RunFolder
from tests.builders.runs import plan

IMAGES, GONE = 400, 60


def table_of(cells: list[list[int]]) -> np.ndarray:
    return np.array(cells, np.int64)


def pair(folder: Path, recipe: str = "covey-exact", **options) -> tuple[Path, Path]:
    """(the folder of a run, that of one which never had some of its images)."""
    original, forgotten = folder / "original", folder / "forgotten"
    given = {"dataset": "digits", "images": IMAGES, "sites": 2, **options}
    if recipe == "covey-exact":
        given |= {"encoder": "noise-filters", "rounds": 0}
    for path in (original, forgotten):
        path.mkdir(parents=True)
    simulate(plan(recipe, **given), original)
    rows = np.random.default_rng(0).permutation(IMAGES)[:GONE]
    leave_out(original, forgotten, rows)
    return original, forgotten


def leave_out(original: Path, forgotten: Path, rows: np.ndarray) -> None:
    """Run the original's plan anew without the images at `rows`, at the same sites."""
    settings = read_settings(original).settings()
    before = Partition.load(original / "partition.json")
    left = tuple(np.setdiff1d(site, rows) for site in before.sites)
    after = Partition(before.spec, before.seed, left)
    sites = sum(len(site) > 0 for site in left)
    again = settings.model_copy(update={"sites": sites})
    data, workshop = planned_data(settings), Workshop(pick_device("cpu"))
    grid = grid_of(sites_of(data, after, forgotten / "sites", workshop))
    run(grid, again, RunFolder(forgotten), "in-process")
    after.save(forgotten / "partition.json")
