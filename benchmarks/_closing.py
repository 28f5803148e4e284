"""What follows an encoder in `covey-exact`, in one process without messages: projection, landmarks,
affinity and k-means, as the recipe has them, and the figures on images that no site has.

Sums are taken over pooled images, since they are the same for any spread of them; landmarks come
from each site's part. Features may lie on a GPU; what is solved is solved on the CPU.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from client.features import STEP, rounded
from client.statistics import exact, measure, solving
from client.statistics.clusters import local_clusters, nearest
from common import metrics
from common.augmentations import Augmentation, build_augmentation
from common.clustering.centroids import Centroids
from common.clustering.kmeans import kmeans
from common.data import ImageData
from common.models.encoders import Encoder
from common.solvers.landmark_spectral import LandmarkSpectral, Parameters
from common.utils.seeds import derive_seed, generator
from server.clustering.landmarks import shared_landmarks

CPU = torch.device("cpu")
MIN_COUNT = 5
AS_CHOSEN = Parameters(width=128, images=20, landmarks=2000)  # as `covey-exact` has it


@dataclass(frozen=True)
class Seen:
    """An encoder's features: of the images, of two views, of two other views of some, of test
    images; whole numbers of 2^-14."""

    plain: Tensor
    views: tuple[Tensor, Tensor]
    others: tuple[Tensor, Tensor]
    test: Tensor
    milliseconds: float


@torch.no_grad()
def look(
    encoder: Encoder, own: ImageData, test: ImageData, seed: int, device: torch.device = CPU
) -> Seen:
    """All features that a variant needs, computed on `device`, on the CPU."""
    encoder.eval().to(device)
    views = build_augmentation("auto", own.kind, own.side)
    images, unseen = torch.from_numpy(own.images), torch.from_numpy(test.images)

    def view(name: str, some: Tensor) -> Tensor:
        return of_view(encoder, views, some, seed, name, device)

    started = time.process_time()
    plain = of_plain(encoder, views, images, device)
    spent = time.process_time() - started
    return Seen(
        plain,
        (view("a", images), view("b", images)),
        (view("other a", images[:2000]), view("other b", images[:2000])),
        of_plain(encoder, views, unseen, device),
        1000 * spent / len(images),
    )


@torch.no_grad()
def of_view(
    encoder: Encoder,
    views: Augmentation,
    images: Tensor,
    seed: int,
    name: str,
    device: torch.device = CPU,
) -> Tensor:
    """Features of one view of each image, drawn by `seed` and `name`."""
    drawn = generator("cpu", seed, name)
    seeds = torch.randint(-(2**62), 2**62, (len(images),), generator=drawn)
    parts = zip(images.split(512), seeds.split(512), strict=True)
    drawn_views = (views.seeded(a.to(device), b.to(device)) for a, b in parts)
    return torch.cat([rounded(encoder(part)).cpu() for part in drawn_views])


def of_plain(
    encoder: Encoder, views: Augmentation, images: Tensor, device: torch.device = CPU
) -> Tensor:
    """Features of the images themselves."""
    chunks = (views.plain(part.to(device)) for part in images.split(512))
    return torch.cat([rounded(encoder(chunk)).cpu() for chunk in chunks])


def beside(*several: Seen) -> Seen:
    """Features side by side, each as long as the others, and whole numbers of 2^-14 again."""

    def joined(*rows: Tensor) -> Tensor:
        parts = zip(*(each.float().split(2048) for each in rows), strict=True)
        return torch.cat([rounded(torch.cat(part, dim=1)) for part in parts])

    return Seen(
        joined(*(seen.plain for seen in several)),
        (joined(*(s.views[0] for s in several)), joined(*(s.views[1] for s in several))),
        (joined(*(s.others[0] for s in several)), joined(*(s.others[1] for s in several))),
        joined(*(seen.test for seen in several)),
        sum(seen.milliseconds for seen in several),
    )


@torch.no_grad()
def projected(
    seen: Seen,
    parameters: Parameters,
    clusters: int,
    rows: Tensor | None = None,
    device: torch.device = CPU,
) -> LandmarkSpectral:
    """The recipe's solver with its projection, from all images or from those at `rows`: the same
    however they are spread. Sums are taken on `device`."""
    encoder = Encoder(torch.nn.Identity(), seen.plain.shape[1])
    solver = LandmarkSpectral(encoder, parameters, clusters).eval()
    views = [view if rows is None else view[rows] for view in seen.views]
    chunks = zip(*(view.split(1024) for view in views), strict=True)
    pairs = ((a.to(device).float(), b.to(device).float()) for a, b in chunks)
    gram, within = map(torch.from_numpy, exact.view_moments(pairs, encoder.feature_dim, device))
    solver.statistics()["moments"].solve({"gram": gram, "within": within})
    return solver


@torch.no_grad()
def close(
    solver: LandmarkSpectral, seen: Seen, own: ImageData, test: ImageData, sites: Any, seed: int
) -> dict[str, float]:
    """Landmarks, affinity and k-means as the recipe has them; the figures."""
    asked, parameters = solver.statistics(), solver.settings
    of_sites = (seen.plain[torch.from_numpy(part)].float() * STEP for part in sites)
    z_of_sites = (F.normalize(solver.projection(h), dim=1) for h in of_sites)
    local = local_landmarks(z_of_sites, lambda count: max(1, count // parameters.images), seed)
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
        scores = by_labels(clusters[name], labels, k)
        figures |= {f"nmi {name}": scores["nmi"], f"acc {name}": scores["acc"]}
    return {key: round(value, 4) for key, value in figures.items()}


def local_landmarks(
    of_sites: Iterable[Tensor], most: Callable[[int], int], seed: int
) -> list[tuple[str, Centroids]]:
    """Centres of each site's own small clusters of its points, `most` of so many points."""
    local = []
    for number, points in enumerate(of_sites):
        drawn = generator("cpu", seed, number)
        found = local_clusters(points, most(len(points)), MIN_COUNT, drawn)
        local.append((str(number), found.centroids))
    return local


def by_labels(clusters: Tensor, labels: Tensor, k: int) -> dict[str, float]:
    """ACC, NMI, ... of K clusters over as many classes."""
    return metrics.clustering_scores(measure.count_table(clusters, labels, k, k))


def _all(seen: Seen) -> dict[str, Tensor]:
    return {"plain": seen.plain, "a": seen.others[0], "b": seen.others[1], "test": seen.test}


def _chunked(solver: LandmarkSpectral, h: Tensor) -> Tensor:
    return torch.cat([solver.projector(part.float()) for part in h.split(2048)])
