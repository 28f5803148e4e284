"""What the landmarks of `covey-exact` tell of who was there, and what they are worth.

    python benchmarks/landmarks.py --datasets fashion-mnist,mnist,cifar10 --json landmarks.json

A tenth of the images, F, is left out, and everything after the features is solved again. With the
largest cosine s(x) = max_j z(x)·c_j between an image and a landmark, the attack tells F from test
images by s(x) of the federation with F, less its mean over `--references` federations without F,
under other seeds. `auc`: of that, .5 where it tells nothing; `tpr`: the share of F that it finds
where 1 % of the others are taken for F. `nmi`, `acc`: on test images. Constructions: `own`, a
site's clusters, as the recipe has them; `split`, from sums alone (`landmarks-from=sums`), no site's
part left out, as with `min-count` 1 or if sums were masked; and `split-sites`, where a site leaves
out what it has of a centre of fewer than 5 images.
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
from numpy.typing import NDArray
from torch import Tensor

from client.features import STEP
from client.statistics import exact, measure, solving
from client.statistics.clusters import local_clusters, nearest
from client.statistics.knowing import nearest_landmark
from common import metrics
from common.clustering.centroids import Centroids
from common.clustering.kmeans import kmeans
from common.data import ImageData, load, load_test
from common.data.partition import make_partition
from common.membership import auc, calibrated, tpr
from common.models.encoders import Encoder
from common.models.noise_filters import noise_filters
from common.protocol.messages import Counts
from common.solvers.base import Affinity, Landmarks, LandmarkSums
from common.solvers.landmark_spectral import SITES, SUMS, LandmarkSpectral, Parameters
from common.utils.seeds import derive_seed, generator
from server.clustering.landmarks import shared_landmarks
from server.clustering.splitting import Step, split_landmarks

UNSEEN = 2000  # test images that the attack is tried on; the others are scored
LEAST = {"own": MIN_COUNT, "split": 1, "split-sites": MIN_COUNT}  # images of a site behind a sum


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
    figures |= scores(whole, solver, test, LEAST[construction], seed)
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
    source = SITES if construction == "own" else SUMS
    parameters = Parameters(width=128, images=amount, landmarks=count, landmarks_from=source)
    encoder = Encoder(torch.nn.Identity(), seen.plain.shape[1])
    solver = LandmarkSpectral(encoder, parameters, federation.clusters).eval()
    solver.projection.load_state_dict(federation.projections[len(rows)])
    asked = next(s for s in solver.statistics().values() if isinstance(s, Landmarks | LandmarkSums))
    points = [asked.points(seen.plain[site].float()) for site in federation.sites]
    if isinstance(asked, LandmarkSums):
        step, least = added(points, LEAST[construction]), asked.least
        found = split_landmarks(step, asked.width, asked.wanted, least, seed)
    else:
        local = []
        for number, some in enumerate(points):
            if len(some) >= MIN_COUNT:
                most, drawn = asked.at_most(len(some)), generator("cpu", seed, number)
                local.append((str(number), local_clusters(some, most, MIN_COUNT, drawn).centroids))
        found = shared_landmarks(local, count, derive_seed(seed, "landmarks"))
    asked.solve({"points": torch.from_numpy(found)})
    return solver


def added(sites: Sequence[Tensor], least: int) -> Step:
    """A step's sums over the points (n, p) of `sites`, each of which leaves out what it has fewer
    than `least` of."""

    def step(centres: Centroids) -> tuple[NDArray[np.float64], Counts]:
        around = torch.from_numpy(centres.points)
        parts = [exact.sums_by_centre(points, around, least) for points in sites]
        sums, counts = (np.stack(each).sum(axis=0) for each in zip(*parts, strict=True))
        return sums, counts

    return step


def scores(
    federation: Federation, solver: LandmarkSpectral, test: ImageData, least: int, seed: int
) -> dict[str, float]:
    """NMI and ACC of the test images that the attack has not had."""
    seen, k, width = federation.seen, federation.clusters, solver.settings.landmarks
    affinity = torch.zeros(width, width, dtype=torch.float64)
    asked = solver.statistics()["affinity"]
    assert isinstance(asked, Affinity)
    for site in federation.sites:
        weights = [asked.points(view[site].float()) for view in seen.views]
        found = solving.affinity_of([(weights[0], weights[1])], width, least, CPU)
        affinity += torch.from_numpy(found)
    asked.solve({"affinity": affinity})
    u = F.normalize(solver.projector(seen.plain[federation.rows].float()), dim=1)
    drawn = generator("cpu", seed, "k-means")
    centres = kmeans(u, k, restarts=64, spherical=True, generator=drawn).centroids
    new = F.normalize(solver.projector(seen.test[UNSEEN:].float()), dim=1)
    labels = torch.from_numpy(np.asarray(test.labels)[UNSEEN:])
    table = measure.count_table(nearest(new, centres), labels, k, k)
    return {"nmi": metrics.nmi(table), "acc": metrics.accuracy(table)}


if __name__ == "__main__":
    typer.run(main)
