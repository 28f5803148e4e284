"""What forgetting costs of what training `covey` anew costs, in CPU seconds of one thread.

    COVEY_DATA=DIR python benchmarks/forgetting_cost.py

`features anew`: `covey forget` of a simulated run, whose process has ended. `features kept`: at
sites that are still there, as over a server: what they have computed of the images that are left
stays.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from client.site import Site, open_site
from client.storage.exclusions import Exclusions
from client.workbench import Workshop, pick_device
from common.config import recipes
from common.config.options import Plan
from common.data import DATASETS, ImageData
from common.data.identity import identities
from common.data.npz import read_npz
from common.data.partition import Partition
from common.data.planned import planned_data
from common.learned.file import read_learned
from deploy.engines.in_process import grid_of
from deploy.engines.simulate import simulate
from deploy.forgetting.choosing import Wish
from deploy.forgetting.here import forget_here, plan_here
from server.app import run
from server.run.folder import RunFolder

SITE = "site-3"


def timed(what: Callable[[], object]) -> float:
    start = time.process_time()
    what()
    return time.process_time() - start


def planned(recipe: str, options: argparse.Namespace) -> Plan:
    given = {
        "dataset": options.data,
        "images": str(options.images),
        "sites": str(options.sites),
        "partition": options.partition,
        "device": "cpu",
        "clusters": "10",
        "views": DATASETS[options.data].kind,
    }
    return recipes.load(recipe).plan(given)


def sites_of(folder: Path, data: ImageData, partition: Partition) -> list[Site]:
    """Sites with data of their own, as they join a server."""
    workshop, sites = Workshop(pick_device("cpu")), []
    for index, part in enumerate(partition.sites):
        name, spec = f"site-{index}", folder / f"site-{index}.npz"
        np.savez(spec, images=data.images[part])
        own = read_npz(spec)
        assert own is not None
        home = folder / name
        sites.append(open_site(name, own, home, workshop, 1, None, Exclusions(home, str(spec))))
    return sites


def kept(plan: Plan, folder: Path, before: Path, names: list[str]) -> tuple[float, float]:
    """Seconds of a run at sites that begin, and of the one after `names` were taken back."""
    data = planned_data(plan)
    partition = Partition.load(before / "partition.json")
    sites = sites_of(folder, data, partition)
    first = timed(partial(run, grid_of(sites), plan, RunFolder(folder / "a"), "in-process"))
    index = int(SITE.removeprefix("site-"))
    rows = [data.names[row] for row in partition.sites[index]]
    numbers = [str(rows.index(name)) for name in names]
    spec = str(folder / f"{SITE}.npz")
    Exclusions(folder / SITE, spec).add(identities(spec, numbers), "benchmark")
    second = timed(partial(run, grid_of(sites), plan, RunFolder(folder / "b"), "in-process"))
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--partition", default="p-skew(1.0)")
    parser.add_argument("--forget", type=int, default=50)
    parser.add_argument("--without-training", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="covey-cost-"))
    plan, before = planned("covey-exact", options), folder / "before"
    seconds = {"covey-exact": timed(partial(simulate, plan, before))}
    table = (before / "sites" / SITE / "before" / "assignments.csv").read_text().splitlines()[1:]
    every = [line.rpartition(",")[0] for line in table]
    rows = np.random.default_rng(0).permutation(len(every))[: options.forget]
    names = [every[row] for row in rows]
    wish, quiet = Wish(names=tuple(names)), Console(quiet=True)

    def forget() -> None:
        forget_here(plan_here(before, SITE, wish), quiet)

    seconds["forgetting, features anew"] = timed(forget)
    first, second = kept(plan, folder, before, names)
    seconds["forgetting, features kept"] = second
    if not options.without_training:
        trained = planned("covey", options)
        seconds["covey anew"] = timed(partial(simulate, trained, folder / "trained"))
    whole = seconds.get("covey anew", float("nan"))
    for name, value in seconds.items():
        print(f"{name:28}{value:8.1f} s{value / whole:8.3f}")
    one, other = (
        read_learned(path / "model.covey").tensors
        for path in (folder / "before-without-1", folder / "b")
    )
    alike = all(array.tobytes() == other[name].tobytes() for name, array in one.items())
    print(f"both ways the same bits: {alike} (a run at these sites before: {first:.1f} s)")


if __name__ == "__main__":
    main()
