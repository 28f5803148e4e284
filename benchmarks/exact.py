"""Choosing the fixed encoder of `covey-exact` without labels, and what the choice is worth.

    python benchmarks/exact.py --datasets fashion-mnist,mnist,cifar10 --seeds 0 --json exact.json

Each variant of `noise-filters` changes one thing. What follows is the recipe's, from pooled
features (sums are the same for any spread, but for the landmarks, which come from `--sites` parts),
in one process without messages. `agreement` needs no label: the NMI between the clusters of one
view of each image and those of another, by which the variant was chosen. NMI and ACC on test images
stand beside it, to see how well that chooses. `ms`: CPU time of one image forward.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from _table import save_json, show
from torch import Tensor

from client.features import STEP, rounded
from client.statistics import exact, measure, solving
from client.statistics.clusters import local_clusters, nearest
from common import metrics
from common.augmentations import Augmentation, build_augmentation
from common.clustering.kmeans import kmeans
from common.data import ImageData, load, load_test
from common.data.partition import make_partition
from common.models.encoders import Encoder
from common.models.noise_filters import Design, noise_filters
from common.solvers.landmark_spectral import LandmarkSpectral, Parameters
from common.utils.seeds import derive_seed, generator
from server.clustering.rules import shared_landmarks

CPU = torch.device("cpu")
MIN_COUNT = 5
SMALL = (3, 3, 3)
DESIGNS = {
    "as chosen": Design(),
    "3 x 3 filters": Design(kernels=SMALL),
    "5 x 5 filters": Design(kernels=(5, 5, 5)),
    "3 x 3 filters, 2 x 2 cells": Design(kernels=SMALL, cells=2),
    "3 x 3 filters, 4 x 4 cells": Design(kernels=SMALL, cells=4),
    "3 x 3 filters, two layers": Design(kernels=SMALL[:2], widths=(32, 64)),
    "3 x 3 filters, half as many": Design(kernels=SMALL, widths=(16, 32, 64)),
    "3 x 3 filters, twice as many": Design(kernels=SMALL, widths=(64, 128, 256)),
}
CLOSINGS = {
    "as chosen": Parameters(width=128, images=20),
    "10 images a landmark": Parameters(width=128, images=10),
    "40 images a landmark": Parameters(width=128, images=40),
    "width 64": Parameters(width=64, images=20),
    "ridge 0.001": Parameters(width=128, images=20, ridge=0.001),
    "ridge 0.1": Parameters(width=128, images=20, ridge=0.1),
}


@dataclass(frozen=True)
class Seen:
    """An encoder's features: of the images, of two views, of two other views of some, of test
    images; whole numbers of 2^-14."""

    plain: Tensor
    views: tuple[Tensor, Tensor]
    others: tuple[Tensor, Tensor]
    test: Tensor
    milliseconds: float


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


@torch.no_grad()
def look(encoder: Encoder, own: ImageData, test: ImageData, seed: int) -> Seen:
    """All features that a variant needs."""
    encoder.eval()
    views = build_augmentation("auto", own.kind, own.side)
    images, unseen = torch.from_numpy(own.images), torch.from_numpy(test.images)

    def view(name: str, some: Tensor) -> Tensor:
        drawn = generator("cpu", seed, name)
        seeds = torch.randint(-(2**62), 2**62, (len(some),), generator=drawn)
        return torch.cat([rounded(encoder(views.seeded(*part))) for part in _split(some, seeds)])

    started = time.process_time()
    plain = of_plain(encoder, views, images)
    spent = time.process_time() - started
    return Seen(
        plain,
        (view("a", images), view("b", images)),
        (view("other a", images[:2000]), view("other b", images[:2000])),
        of_plain(encoder, views, unseen),
        1000 * spent / len(images),
    )


def of_plain(encoder: Encoder, views: Augmentation, images: Tensor) -> Tensor:
    """Features of the images themselves."""
    return torch.cat([rounded(encoder(views.plain(part))) for part in images.split(512)])


def _split(images: Tensor, seeds: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(images.split(512), seeds.split(512), strict=True)


@torch.no_grad()
def projected(
    seen: Seen, parameters: Parameters, clusters: int, rows: Tensor | None = None
) -> LandmarkSpectral:
    """The recipe's solver with its projection, from all images or from those at `rows`: the same
    however they are spread."""
    encoder = Encoder(torch.nn.Identity(), seen.plain.shape[1])
    solver = LandmarkSpectral(encoder, parameters, clusters).eval()
    views = [view if rows is None else view[rows] for view in seen.views]
    pairs = zip(*(view.float().split(1024) for view in views), strict=True)
    gram, within = map(torch.from_numpy, exact.view_moments(pairs, encoder.feature_dim, CPU))
    solver.statistics()["moments"].solve({"gram": gram, "within": within})
    return solver


@torch.no_grad()
def close(
    solver: LandmarkSpectral, seen: Seen, own: ImageData, test: ImageData, sites: Any, seed: int
) -> dict[str, float]:
    """Landmarks, affinity and k-means as the recipe has them; the figures."""
    asked, parameters = solver.statistics(), solver.settings
    local = []
    for number, part in enumerate(sites):
        h = seen.plain[torch.from_numpy(part)].float() * STEP
        z, drawn = F.normalize(solver.projection(h), dim=1), generator("cpu", seed, number)
        most = max(1, len(part) // parameters.images)
        local.append((str(number), local_clusters(z, most, MIN_COUNT, drawn).centroids))
    points = shared_landmarks(local, parameters.landmarks, derive_seed(seed, "landmarks"))
    asked["landmarks"].solve({"points": torch.from_numpy(points)})
    affinity = torch.zeros(parameters.landmarks, parameters.landmarks, dtype=torch.float64)
    for part in sites:
        index = torch.from_numpy(part)
        a, b = (solver.weights(solver.projection(v[index].float())) for v in seen.views)
        found = solving.affinity_of([(a, b)], parameters.landmarks, MIN_COUNT, CPU)
        affinity += torch.from_numpy(found)
    asked["affinity"].solve({"affinity": affinity})
    u = {name: F.normalize(_chunked(solver, h), dim=1) for name, h in _all(seen).items()}
    k, drawn = len(own.classes), generator("cpu", seed, "k-means")
    centres = kmeans(u["plain"], k, restarts=64, spherical=True, generator=drawn).centroids
    clusters = {name: nearest(points, centres) for name, points in u.items()}
    figures = {"agreement": metrics.nmi(measure.count_table(clusters["a"], clusters["b"], k, k))}
    for name, data in (("plain", own), ("test", test)):
        assert data.labels is not None
        labels = torch.from_numpy(data.labels)
        table = measure.count_table(clusters[name], labels, k, k)
        figures |= {f"nmi {name}": metrics.nmi(table), f"acc {name}": metrics.accuracy(table)}
    return {key: round(value, 4) for key, value in figures.items()}


def _all(seen: Seen) -> dict[str, Tensor]:
    return {"plain": seen.plain, "a": seen.others[0], "b": seen.others[1], "test": seen.test}


def _chunked(solver: LandmarkSpectral, h: Tensor) -> Tensor:
    return torch.cat([solver.projector(part.float()) for part in h.split(2048)])


if __name__ == "__main__":
    typer.run(main)
