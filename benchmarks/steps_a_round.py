"""What training is worth, over how many exchanges it takes: steps a round.

    python benchmarks/steps_a_round.py --dataset cifar10
    python benchmarks/steps_a_round.py --dataset digits --images 600 --steps 32 --arms sync,1,8

All arms are `covey` with the same start and the same closing, and as many steps on as many images
in between: `none` (no training), `sync` (each step on a batch of all sites' images, `covey-sync`),
and numbers s: federated averaging, s steps at each site a round, on its share of such a batch. NMI
and ACC are on the data set's test images, where it has any, by the federation's own clusters;
beside them NMI on the sites' images. MB: all sites, both ways, of the training.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _table import save_json, show
from rich.console import Console

from common.config import recipes
from common.config.options import Plan
from common.record.reader import read_run
from deploy.engines.simulate import simulate
from deploy.evaluation.pooled import Asked, evaluate_run

COLUMNS = ("arm", "partition", "seed", "rounds", "exchanges", "MB", "NMI", "ACC", "own NMI")
COLUMNS += ("loss", "CPU s")


def main(
    dataset: str = "cifar10",
    images: int = 5000,
    sites: int = 10,
    partitions: Annotated[str, typer.Option(help="with | between")] = "p-skew(1.0)|iid",
    seeds: str = "0",
    steps: Annotated[int, typer.Option(help="of training, in every arm")] = 192,
    batch: Annotated[int, typer.Option(help="images of all sites in a step")] = 256,
    encoder: str = "small-convnet",
    arms: str = "none,sync,1,4,16,64",
    threads: int = 1,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
) -> None:
    """Train each arm in one process, print a row as soon as it is there, then the table."""
    torch.set_num_threads(threads)
    rows: list[dict[str, Any]] = []
    base = {"dataset": dataset, "images": images, "sites": sites, "encoder": encoder}
    for partition in partitions.split("|"):
        for seed in map(int, seeds.split(",")):
            for arm in arms.split(","):
                given = {**base, "partition": partition, "seed": seed}
                rows.append(measured(arm, planned(arm, given, steps, batch)))
                print(rows[-1], flush=True)
                if json:
                    save_json(json, rows)
    what = f"{dataset}, {images:,} images, {steps} steps of {batch}, {encoder}"
    show(what, COLUMNS, [tuple(row[column] for column in COLUMNS) for row in rows])


def planned(arm: str, base: dict[str, Any], steps: int, batch: int) -> Plan:
    """One arm; the steps of a round have to be a part of all `steps`."""
    if arm == "none":
        return recipes.load("covey").plan(base | {"rounds": "0,0,0"})
    if arm == "sync":
        more = {"rounds": f"0,{steps},0", "batch-size": batch, "schedule": "constant"}
        return recipes.load("covey-sync").plan(base | more)
    rounds, left = divmod(steps, int(arm))
    if left:
        raise typer.BadParameter(f"{steps} steps are no whole number of rounds of {arm}")
    own = max(2, batch // base["sites"])
    more = {"rounds": f"0,{rounds},0", "local-steps": arm, "batch-size": own}
    return recipes.load("covey").plan(base | more)


def measured(arm: str, plan: Plan) -> dict[str, Any]:
    """The row of one run."""
    began = time.process_time()
    with tempfile.TemporaryDirectory(prefix="covey-") as folder:
        run = Path(folder) / "run"
        simulate(plan, run)
        spent = time.process_time() - began
        record = read_run(run)
        asked = Asked(protocols=("clustering",), device="cpu")
        figures = evaluate_run(run, asked, Console(quiet=True))["centroids_held_out"]
    rounds = record.rounds
    return {
        "arm": arm,
        "partition": plan.partition,
        "seed": plan.seed,
        "rounds": len(rounds),
        "exchanges": 2 * len(rounds),
        "MB": round(sum(each.bytes_down + each.bytes_up for each in rounds) / 1e6),
        "NMI": round(figures["nmi"], 3),
        "ACC": round(figures["acc"], 3),
        "own NMI": round(record.stages[-1].figures["nmi"], 3),
        "loss": round(rounds[-1].loss["loss"], 2) if rounds else "–",
        "CPU s": round(spent),
    }


if __name__ == "__main__":
    typer.run(main)
