"""What the landmarks of `covey-exact` tell of who was there, and what they are worth.

    python benchmarks/landmarks.py --datasets fashion-mnist,mnist,cifar10 --json landmarks.json

A tenth of the images, F, is left out, and everything after the features is solved again. With the
largest cosine s(x) = max_j z(x)·c_j between an image and a landmark, the attack tells F from test
images by s(x) of the federation with F, less its mean over `--references` federations without F,
under other seeds. `auc`: of that, .5 where it tells nothing; `tpr`: the share of F that it finds
where 1 % of the others are taken for F. `nmi`, `acc`: on test images. Constructions: `own`, a
site's clusters, as the recipe has them; `split`, from sums alone, centres that are split in two
again and again (Linde, Buzo and Gray, 1980), no site's part left out, as if sums were masked; and
`split-sites`, where a site leaves out what it has of a centre of fewer than 5 images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from _closing import CPU, MIN_COUNT, Seen, look, projected
from _table import save_json, show
from torch import Tensor

from client.features import STEP
from client.statistics import measure, solving
from client.statistics.clusters import local_clusters, nearest
from common import metrics
from common.clustering.kmeans import kmeans
from common.data import ImageData, load, load_test
from common.data.partition import make_partition
from common.models.encoders import Encoder
from common.models.noise_filters import noise_filters
from common.solvers.landmark_spectral import LandmarkSpectral, Parameters
from common.utils.seeds import derive_seed, generator
from deploy.audit.attack import auc, calibrated, tpr
from deploy.audit.looking import nearest_landmark
from server.clustering.landmarks import shared_landmarks

UNSEEN = 2000  # test images that the attack is tried on; the others are scored
STEPS = 3  # of Lloyd's algorithm after each split
ASIDE = 0.05  # how far apart the two halves of a centre start, by half


@dataclass(frozen=True)
class Federation:
    """Features of all images, and who holds which of them."""

    seen: Seen
    sites: Sequence[Tensor]
    clusters: int
    projections: dict[int, Any]
    """By the number of images: with all, and without F, the same however they are spread."""

    def without(self, gone: Tensor) -> "Federation":
        """The same without the images at `gone` (N,) bool."""
        return replace(self, sites=[site[~gone[site]] for site in self.sites])

    @property
    def rows(self) -> Tensor:
        """All images that are there."""
        return torch.cat(list(self.sites))


def main(
    datasets: str = "fashion-mnist,mnist,cifar10",
    images: int = 5000,
    sites: int = 10,
    partitions: str = "iid,dirichlet(0.1),p-skew(1.0)",
    amounts: str = "10,20,40",
    constructions: str = "own,split",
    references: int = 2,
    seed: int = 0,
    json: Annotated[
        Path | None, typer.Option(help="also write the rows here, as they come")
    ] = None,
) -> None:
    """Try the constructions, print a row for each."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    rows: list[dict[str, Any]] = []
    for dataset in datasets.split(","):
        own, test = load(dataset, images=images, seed=seed), load_test(dataset)
        assert own.labels is not None and test is not None and test.labels is not None
        seen = look(noise_filters(own.channels, own.side), own, test, seed)
        projections: dict[int, Any] = {}
        for partition in partitions.split(","):
            parts = make_partition(own.labels, partition, sites, seed).sites
            held = [torch.from_numpy(part) for part in parts]
            whole = Federation(seen, held, len(own.classes), projections)
            for construction in constructions.split(","):
                for amount in map(int, amounts.split(",")):
                    found = audited(whole, test, construction, amount, references, seed)
                    row = {"dataset": dataset, "partition": partition, "landmarks": construction}
                    rows.append({**row, "images each": amount, **found})
                    print(rows[-1], flush=True)
                    if json:
                        save_json(json, rows)
    columns = tuple(rows[0])
    show("landmarks", columns, [tuple(str(row[column]) for column in columns) for row in rows])


def audited(
    whole: Federation, test: ImageData, construction: str, amount: int, references: int, seed: int
) -> dict[str, float]:
    """The attack's figures and the clusters' of one construction."""
    gone, drawn = torch.zeros(len(whole.seen.plain), dtype=torch.bool), generator("cpu", seed, "F")
    gone[torch.randperm(len(gone), generator=drawn)[: len(gone) // 10]] = True
    solver = landmarks_of(whole, construction, amount, seed)
    kept = whole.without(gone)
    others = [
        landmarks_of(kept, construction, amount, seed + 1 + number) for number in range(references)
    ]
    members, unseen = (h.float() * STEP for h in (whole.seen.plain[gone], whole.seen.test[:UNSEEN]))
    own, *usual = (
        (nearest_landmark(each, members), nearest_landmark(each, unseen))
        for each in (solver, *others)
    )
    inside, outside = calibrated(own, usual)
    figures = {"auc": auc(inside, outside), "tpr": tpr(inside, outside)}
    figures |= scores(whole, solver, test, seed)
    return {key: round(value, 3) for key, value in figures.items()}


def landmarks_of(
    federation: Federation, construction: str, amount: int, seed: int
) -> LandmarkSpectral:
    """The recipe's stage up to its landmarks, about `amount` images behind each."""
    seen, rows = federation.seen, federation.rows.sort().values
    if len(rows) not in federation.projections:
        parameters = Parameters(width=128)
        found = projected(seen, parameters, federation.clusters, rows).projection
        federation.projections[len(rows)] = found.state_dict()
    count = max(federation.clusters, len(rows) // amount)
    parameters = Parameters(width=128, images=amount, landmarks=count)
    encoder = Encoder(torch.nn.Identity(), seen.plain.shape[1])
    solver = LandmarkSpectral(encoder, parameters, federation.clusters).eval()
    solver.projection.load_state_dict(federation.projections[len(rows)])

    def points(some: Tensor) -> Tensor:
        return F.normalize(solver.projection(seen.plain[some].float()), dim=1)

    if construction == "split":
        points_of = split([points(rows)], count).double()
    elif construction == "split-sites":
        points_of = split([points(site) for site in federation.sites], count).double()
    else:
        local = []
        for number, site in enumerate(federation.sites):
            if len(site) >= MIN_COUNT:
                most, drawn = max(1, len(site) // amount), generator("cpu", seed, number)
                local.append(
                    (str(number), local_clusters(points(site), most, MIN_COUNT, drawn).centroids)
                )
        merged = shared_landmarks(local, count, derive_seed(seed, "landmarks"))
        points_of = torch.from_numpy(merged)
    solver.statistics()["landmarks"].solve({"points": points_of})
    return solver


def split(sites: Sequence[Tensor], count: int) -> Tensor:
    """At most `count` unit-length centres of the points (n, p) of `sites`, from sums alone: the
    largest are split in two along a fixed direction until there are enough. What a site has of a
    centre with fewer than `MIN_COUNT` of its points is left out, and so is a centre without any."""
    centres = F.normalize(torch.cat(list(sites)).double().sum(0, keepdim=True), dim=1).float()
    aside = torch.randn(centres.shape[1], generator=generator("cpu", 0, "split"))
    aside *= ASIDE / aside.norm()
    sizes = torch.tensor([sum(map(len, sites))])
    before = 0
    while before < len(centres) < count:
        before = len(centres)
        largest = sizes.argsort(descending=True)[: count - len(centres)]
        largest = largest[sizes[largest] >= 2 * MIN_COUNT]
        if not len(largest):
            break
        twins = F.normalize(centres[largest] + aside, dim=1)
        centres[largest] = F.normalize(centres[largest] - aside, dim=1)
        centres = torch.cat([centres, twins])
        for _ in range(STEPS):
            sizes = torch.zeros(len(centres), dtype=torch.long)
            sums = torch.zeros(centres.shape, dtype=torch.float64)
            for points in sites:
                labels = nearest(points, centres)
                own = torch.bincount(labels, minlength=len(centres))
                sizes += own * (own >= MIN_COUNT)
                told = own[labels] >= MIN_COUNT
                sums.index_add_(0, labels[told], points[told].double())
            kept = sizes > 0
            centres, sizes = F.normalize(sums[kept], dim=1).float(), sizes[kept]
    return centres


def scores(
    federation: Federation, solver: LandmarkSpectral, test: ImageData, seed: int
) -> dict[str, float]:
    """NMI and ACC of the test images that the attack has not had."""
    seen, k, width = federation.seen, federation.clusters, solver.settings.landmarks
    affinity = torch.zeros(width, width, dtype=torch.float64)
    for site in federation.sites:
        weights = [solver.weights(solver.projection(v[site].float())) for v in seen.views]
        found = solving.affinity_of([(weights[0], weights[1])], width, MIN_COUNT, CPU)
        affinity += torch.from_numpy(found)
    solver.statistics()["affinity"].solve({"affinity": affinity})
    u = F.normalize(solver.projector(seen.plain[federation.rows].float()), dim=1)
    drawn = generator("cpu", seed, "k-means")
    centres = kmeans(u, k, restarts=64, spherical=True, generator=drawn).centroids
    new = F.normalize(solver.projector(seen.test[UNSEEN:].float()), dim=1)
    labels = torch.from_numpy(np.asarray(test.labels)[UNSEEN:])
    table = measure.count_table(nearest(new, centres), labels, k, k)
    return {"nmi": metrics.nmi(table), "acc": metrics.accuracy(table)}


if __name__ == "__main__":
    typer.run(main)
