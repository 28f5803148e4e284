"""Choosing the fixed encoder of `covey-exact` without labels, and what the choice is worth.

    python benchmarks/exact.py --datasets fashion-mnist,mnist,cifar10 --seeds 0 --json exact.json

Each variant of `noise-filters` changes one thing. What follows is the recipe's, from pooled
features (sums are the same for any spread, but for the landmarks, which come from `--sites` parts),
in one process without messages. `agreement` needs no label: the NMI between the clusters of one
view of each image and those of another, by which the variant was chosen. NMI and ACC on test images
stand beside it, to see how well that chooses. `ms`: CPU time of one image forward.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _closing import AS_CHOSEN, close, look, projected
from _table import save_json, show

from common.data import load, load_test
from common.data.partition import make_partition
from common.models.noise_filters import Design, noise_filters

SMALL, ALIKE = (3, 3, 3), (1.0, 1.0, 1.0)
PLAIN = Design(lengths=ALIKE, evened=0)  # as it was before maps were evened
DESIGNS = {
    "as chosen": Design(),
    "layers alike": Design(lengths=ALIKE),
    "maps not evened": Design(evened=0),
    "plain": PLAIN,
    "plain, maps evened whole": replace(PLAIN, evened=2),
    "plain, maps evened whole, floor 0.5": replace(PLAIN, evened=2, floor=0.5),
    "plain, 3 x 3 filters": replace(PLAIN, kernels=SMALL),
    "plain, 5 x 5 filters": replace(PLAIN, kernels=(5, 5, 5)),
    "plain, 7 x 7 filters first": replace(PLAIN, kernels=(7, 3, 3)),
    "plain, 3 x 3 filters, 2 x 2 cells": replace(PLAIN, kernels=SMALL, cells=2),
    "plain, 3 x 3 filters, 4 x 4 cells": replace(PLAIN, kernels=SMALL, cells=4),
    "plain, 3 x 3 filters, two layers": replace(PLAIN, kernels=SMALL[:2], widths=(32, 64)),
    "plain, 3 x 3 filters, half as many": replace(PLAIN, kernels=SMALL, widths=(16, 32, 64)),
    "plain, 3 x 3 filters, twice as many": replace(PLAIN, kernels=SMALL, widths=(64, 128, 256)),
}
CLOSINGS = {
    "as chosen": AS_CHOSEN,
    "10 images a landmark": replace(AS_CHOSEN, images=10),
    "40 images a landmark": replace(AS_CHOSEN, images=40),
    "1,000 landmarks": replace(AS_CHOSEN, landmarks=1000),
    "width 64": replace(AS_CHOSEN, width=64),
    "ridge 0.001": replace(AS_CHOSEN, ridge=0.001),
    "ridge 0.1": replace(AS_CHOSEN, ridge=0.1),
}


def main(
    datasets: str = "fashion-mnist,mnist,cifar10",
    images: int = 5000,
    sites: int = 10,
    partitions: str = "iid,p-skew(1.0)",
    seeds: str = "0",
    designs: Annotated[str, typer.Option(help="names with | between; empty: all")] = "",
    closings: Annotated[str, typer.Option(help="what follows the encoder; |")] = "as chosen",
    json: Annotated[
        Path | None, typer.Option(help="also write the rows here, as they come")
    ] = None,
) -> None:
    """Try the variants, print a row for each."""
    torch.set_num_threads(1)
    chosen = designs.split("|") if designs else list(DESIGNS)
    rows: list[dict[str, Any]] = []
    for dataset in datasets.split(","):
        for seed in map(int, seeds.split(",")):
            own, test = load(dataset, images=images, seed=seed), load_test(dataset)
            assert test is not None and own.labels is not None
            for name in chosen:
                seen = look(noise_filters(own.channels, own.side, DESIGNS[name]), own, test, seed)
                for closing in closings.split("|"):
                    solver = projected(seen, CLOSINGS[closing], len(own.classes))
                    for partition in partitions.split(","):
                        parts = make_partition(own.labels, partition, sites, seed)
                        found = close(solver, seen, own, test, parts.sites, seed)
                        row = {"dataset": dataset, "seed": seed, "encoder": name}
                        row |= {"closing": closing, "partition": partition, **found}
                        rows.append({**row, "ms": round(seen.milliseconds, 2)})
                        print(rows[-1], flush=True)
                        if json:
                            save_json(json, rows)
    columns = tuple(rows[0])
    show("variants", columns, [tuple(str(row[column]) for column in columns) for row in rows])


if __name__ == "__main__":
    typer.run(main)
