"""Choosing hyper-parameters of `covey` without labels.

    python benchmarks/ridge.py RUN                                      # the projection's own
    python benchmarks/ridge.py RUN RUN ... --ridges 0.01 --widths 64    # what the runs differ in

For each finished run of `covey` the encoder stays, the projection is solved anew for each ridge ε
and width, and the pooled images are clustered in it. `agreement` needs no label: the NMI between
the clusters of one view of each image and those of another view (a table of counts, so a federation
could add it up). NMI and ACC against the labels stand beside it, to see whether the choice that
agreement makes is a good one. Each figure is the mean over `--repeats` starts of k-means.
"""

import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from _table import save_json, show
from torch import Tensor

from client import measure
from client.embedding import CHUNK
from common import metrics
from common.data import ImageData, load
from common.errors import UserError
from common.kmeans import kmeans
from common.objectives.projection import solve_projection
from common.seeds import generator
from deploy.trained import Trained, load_trained

FIGURES = ("width", "agreement", "nmi", "acc")


def main(
    runs: Annotated[list[Path], typer.Argument(help="finished runs")],
    ridges: str = "0.001,0.003,0.01,0.03,0.1,0.3",
    widths: str = "64,256",
    repeats: int = 3,
    threads: int = 1,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
) -> None:
    """Solve, cluster, print."""
    torch.set_num_threads(threads)
    sizes = [float(x) for x in ridges.split(",")], [int(x) for x in widths.split(",")]
    rows = [row for run in runs for row in judged(run, *sizes, repeats)]
    show(
        f"projection by run, ridge and width (mean of {repeats})",
        ("run", "ridge", "width", "agreement", "nmi", "acc"),
        [(r["run"], str(r["ridge"]), *(r[c] for c in FIGURES)) for r in rows],
    )
    if json:
        save_json(json, rows)


def judged(
    run: Path, ridges: Sequence[float], widths: Sequence[int], repeats: int
) -> Iterator[dict[str, Any]]:
    """A row of figures for each projection of a run."""
    trained = load_trained(run)
    plan = trained.plan
    data = load(plan.dataset, images=plan.images, seed=plan.seed, side=plan.side)
    assert data.labels is not None
    labels, k = torch.from_numpy(data.labels), plan.clusters or len(data.classes)
    h, h_a, h_b = trained.embed(data), *two_views(trained, data)
    ones = F.pad(torch.cat([h_a, h_b]), (0, 1), value=1.0).double()
    gram, within = ones.T @ ones / 2, (h_a - h_b).double().T @ (h_a - h_b).double()
    gram, within = gram.cpu(), within.cpu()  # solved where the server does
    for ridge in ridges:
        for width in widths:
            solved = solve_projection(gram, within, width, ridge)
            weights, mean = (x.float().to(h.device) for x in solved)
            z, z_a, z_b = ((x - mean) @ weights for x in (h, h_a, h_b))
            found = [figures(z, z_a, z_b, labels, k, repeat) for repeat in range(repeats)]
            means = {name: statistics.mean(one[name] for one in found) for name in found[0]}
            yield {"run": run.name, "ridge": ridge, "width": width, **means}


@torch.no_grad()
def two_views(trained: Trained, data: ImageData) -> tuple[Tensor, Tensor]:
    """Unit-length encoder outputs (N, d) of two views of each image."""
    chance = generator(trained.device, trained.plan.seed, "ridge")
    views = trained.views(data)
    images = torch.from_numpy(data.images)
    pairs = [views.pair(c.to(trained.device), chance) for c in images.split(CHUNK)]
    a, b = (
        torch.cat([F.normalize(trained.encoder(pair[i]).float(), dim=1) for pair in pairs])
        for i in (0, 1)
    )
    return a, b


def figures(
    z: Tensor, z_a: Tensor, z_b: Tensor, labels: Tensor, k: int, repeat: int
) -> dict[str, float]:
    """Agreement between two views, and NMI and ACC of the images without augmentation."""
    chance = generator(z.device, "ridge", repeat)
    both = kmeans(torch.cat([z_a, z_b]), k, spherical=True, generator=chance)
    first, second = both.labels.chunk(2)
    plain = kmeans(z, k, spherical=True, generator=chance)
    scores = metrics.clustering_scores(
        measure.count_table(plain.labels, labels, k, int(labels.max()) + 1)
    )
    agreement = metrics.nmi(measure.count_table(first, second, k, k))
    return {"agreement": agreement, "nmi": scores["nmi"], "acc": scores["acc"]}


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except UserError as error:
        sys.exit(f"ridge: {error}")
