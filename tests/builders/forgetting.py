"""Runs of which images are taken back, and those that never had them."""

import csv
from pathlib import Path

import numpy as np
from rich.console import Console

from client.site import open_site
from client.workbench import Workshop, pick_device
from common.config.options import Plan
from common.data.planned import planned_data, planned_partition
from common.learned.file import read_learned
from common.record.reader import read_run
from deploy.engines.in_process import grid_of
from deploy.forgetting.choosing import Wish
from server.app import run
from server.run.folder import RunFolder
from tests.builders.runs import plan

QUIET = Console(quiet=True)
OPTIONS = {
    "images": 300,
    "encoder": "noise-filters",
    "rounds": 0,
    "sites": 4,
    "parameters": "landmarks=60 images=10",
}
QUICK = "fedkmeans-pixels"  # trains nothing, and solves no large matrix
FEW = {"sites": 4, "images": 300, "encoder": "pixels", "rounds": 0, "partition": "iid"}
SITE, INDEX = "site-1", 1


def planned(recipe: str = "covey-exact", **options: object) -> Plan:
    usual = {"covey-exact": OPTIONS, QUICK: FEW}.get(recipe, {"sites": 4})
    return plan(recipe, **{**usual, **options})


def random_files(folder: Path, count: int = 20) -> Wish:
    names = [name for name, _ in assigned(folder)]
    rows = np.random.default_rng(0).permutation(len(names))[:count]
    return Wish(names=tuple(names[row] for row in rows))


def assigned(folder: Path, site: str = SITE) -> list[tuple[str, int]]:
    with (folder / "sites" / site / folder.name / "assignments.csv").open() as file:
        return [(line["image"], int(line["cluster"])) for line in csv.DictReader(file)]


def smallest_cluster(folder: Path) -> int:
    clusters = [cluster for _, cluster in assigned(folder)]
    return min(set(clusters), key=clusters.count)


def never_had(the_plan: Plan, gone: set[str], folder: Path) -> Path:
    """A run of the same plan at sites that never had the images with these names of `SITE`."""
    data = planned_data(the_plan)
    workshop, sites = Workshop(pick_device("cpu")), []
    for index, part in enumerate(planned_partition(the_plan, data).sites):
        kept = [i for i in part if index != INDEX or data.names[i] not in gone]
        if kept:
            name = f"site-{index}"
            own = data.subset(np.array(kept))
            sites.append(open_site(name, own, folder / "sites" / name, workshop))
    fewer = the_plan.model_copy(update={"sites": len(sites), "clusters": 10})
    run(grid_of(sites), fewer, RunFolder(folder), "in-process")
    return folder


def same(one: Path, other: Path) -> bool:
    """All that the two runs have learned, and every figure, to the bit."""
    a, b = (read_learned(path / "model.covey") for path in (one, other))
    assert a.tensors.keys() == b.tensors.keys() and len(a.tensors) > 1
    figures = [[stage.figures for stage in read_run(path).stages][-1] for path in (one, other)]
    return (
        all(array.tobytes() == b.tensors[name].tobytes() for name, array in a.tensors.items())
        and figures[0] == figures[1]
    )
