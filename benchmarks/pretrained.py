"""What `covey-pretrained` chooses without labels, and what the choice is worth.

    python benchmarks/pretrained.py --encoder timm:NAME --weights FILE.safetensors --features f.npz

Features are computed once, into `--features`: of the sites' images, of two views of each, of two
other views, and of `--others` further training images, which no site has. The closings are the
recipe's own functions, from pooled features (sums are the same for any spread), with landmarks from
`--sites` parts; k-means is on pooled points. In one process, without messages. `agreement` is what
the recipe chooses by; labels are looked at afterwards, for NMI.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from _closing import CPU, MIN_COUNT, by_labels, local_landmarks
from _table import save_json, show
from torch import Tensor

from client.features import STEP, rounded
from client.statistics import exact, measure, solving
from client.statistics.clusters import nearest
from common import metrics
from common.augmentations import build_augmentation
from common.clustering.kmeans import kmeans
from common.config import recipes
from common.data import load
from common.data.partition import make_partition
from common.models.encoders import Encoder
from common.models.pretrained.settle import encoder_of, settle_encoder
from common.models.pretrained.store import WeightStore
from common.solvers.base import unit
from common.solvers.chosen_spectral import ChosenSpectral, Parameters
from common.utils.seeds import generator
from server.clustering.landmarks import near_their_own, shared_landmarks

AT_ONCE = 50
NAMES = ("plain", "view a", "view b", "other view a", "other view b", "others")
Closing = Callable[[Tensor], Tensor]


class Given(Encoder):
    """An encoder whose outputs are there already."""

    def __init__(self, width: int) -> None:
        super().__init__(torch.nn.Identity(), width)


@torch.no_grad()
def features(encoder: Encoder, dataset: str, count: int, more: int, seed: int) -> dict[str, Any]:
    """h (n, d) by `NAMES`, and the labels of the sites' images and of the others."""
    data = load(dataset, images=count + more, seed=seed)
    order = np.random.default_rng(seed).permutation(count + more)
    own, others = order[:count], order[count:]
    augmentation = build_augmentation("auto", data.kind, data.side)
    images, chance = torch.from_numpy(data.images), torch.Generator().manual_seed(seed)
    found = {}
    for name in NAMES:
        rows = images[others if name == "others" else own]
        seen = augmentation(rows, chance) if "view" in name else augmentation.plain(rows)
        found[name] = torch.cat([encoder(part) for part in seen.split(AT_ONCE)]).numpy()
    return {**found, "labels": data.labels[own], "labels of others": data.labels[others]}


def look(h: dict[str, Tensor], known: dict[str, Any], partition: str, sites: int, seed: int) -> Any:
    """Rows: each way, with landmarks and without, and which one is chosen."""
    clusters = int(known["labels"].max()) + 1
    settings = recipes.load("covey-pretrained").plan().stages[0].parameters
    model = ChosenSpectral(Given(h["plain"].shape[1]), Parameters(**settings), clusters)
    whole = [(h["view a"] / STEP, h["view b"] / STEP)]
    gram, within = exact.view_moments(whole, h["plain"].shape[1], CPU)
    model.solve_projector({"gram": torch.from_numpy(gram), "within": torch.from_numpy(within)})
    parts = make_partition(known["labels"], partition, sites, seed).sites
    of_sites = (h["plain"][rows] for rows in parts if len(rows))
    local = local_landmarks(of_sites, model._landmarks_of, seed)
    near = near_their_own(local)
    points = shared_landmarks(local, model.settings.landmarks, seed)
    model.set_landmarks({k: torch.from_numpy(v) for k, v in {"points": points, **near}.items()})
    pairs = [(_one(h["other view a"]), _one(h["other view b"]))]
    views = solving.agreements(pairs, model.scores().float(), clusters)
    tables = np.split(views, len(model._ways))
    found = [metrics.nmi(table) for table in tables]
    rows = []
    for number, way in enumerate(model._ways):
        only = torch.ones(len(model._ways), clusters, clusters)
        only[number] = torch.eye(clusters) * 100
        model.choose({"views": only.flatten(0, 1).double()})
        best = number == int(np.argmax(found))
        for through in (0.0, 1.0):
            if through:
                weights = [(model._weighted(h["view a"]), model._weighted(h["view b"]))]
                width = model.settings.landmarks
                affinity = solving.affinity_of(weights, width, MIN_COUNT, CPU)
                model.solve_coordinates({"affinity": torch.from_numpy(affinity)})
            model.projector.get_buffer("through").fill_(through)
            chosen = best and through == (near["own"] > near["chance"]).item()
            about = {
                "way": way.name + (" + landmarks" if through else ""),
                "agreement": found[number],
            }
            scores = _scores(model.projector, h, known, clusters, seed)
            rows.append(
                {"partition": partition, **about, **scores, "chosen": "yes" if chosen else ""}
            )
    return rows


def _one(h: Tensor) -> Tensor:
    return torch.nn.functional.pad(unit(h), (0, 1), value=1.0)


@torch.no_grad()
def _scores(closing: Closing, h: dict[str, Tensor], known: Any, clusters: int, seed: int) -> Any:
    points, others = unit(closing(h["plain"])), unit(closing(h["others"]))
    found = kmeans(points, clusters, restarts=10, spherical=True, generator=generator("cpu", seed))
    labels, others_labels = (
        torch.from_numpy(known[name]) for name in ("labels", "labels of others")
    )
    scores = by_labels(nearest(others, unit(found.centroids)), others_labels, clusters)
    own = by_labels(found.labels, labels, clusters)
    silhouette = measure.silhouette(points, unit(found.centroids)) / len(points)
    return {
        "NMI": scores["nmi"],
        "ACC": scores["acc"],
        "NMI own": own["nmi"],
        "silhouette": silhouette,
    }


def main(
    features_file: Annotated[Path, typer.Option("--features", help="made if it is not there")],
    encoder: Annotated[str, typer.Option(help="timm:NAME, or one of Covey's")] = "noise-filters",
    weights: Annotated[str, typer.Option(help="its file")] = "",
    encoder_side: Annotated[int, typer.Option(help="0: the network's own")] = 0,
    dataset: Annotated[str, typer.Option(help="with classes")] = "cifar10",
    images: Annotated[int, typer.Option(help="of all sites")] = 3000,
    others: Annotated[int, typer.Option(help="further ones, which no site has")] = 2000,
    sites: Annotated[int, typer.Option(help="of the federation")] = 10,
    partitions: Annotated[str, typer.Option(help="by semicolons")] = "p-skew(1.0);iid",
    seed: Annotated[int, typer.Option()] = 0,
    json: Annotated[Path | None, typer.Option(help="the rows as JSON")] = None,
) -> None:
    if not features_file.exists():
        given = {"encoder": encoder, "weights": weights, "encoder-side": str(encoder_side)}
        plan = settle_encoder(recipes.load("covey-pretrained").plan(given), WeightStore())
        shape = load(dataset, images=2, seed=seed)
        network = encoder_of(plan, shape.channels, shape.side, WeightStore()).eval()
        np.savez(features_file, **features(network, dataset, images, others, seed))
    with np.load(features_file) as found:
        known = {name: found[name] for name in ("labels", "labels of others")}
        h = {name: rounded(torch.from_numpy(found[name])).float() * STEP for name in NAMES}
    rows = [row for each in partitions.split(";") for row in look(h, known, each, sites, seed)]
    count = len(known["labels"])
    what = f"{features_file.name}, {count} images of {dataset}, {sites} sites, seed {seed}"
    columns = ["way", *(name for name in rows[0] if name != "way")]
    show(what, columns, [[row[name] for name in columns] for row in rows])
    if json:
        save_json(json, rows)


if __name__ == "__main__":
    typer.run(main)
