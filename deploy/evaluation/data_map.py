"""A 2-D map of the embeddings, and pictures of each cluster, for the report, where the data is on
this machine.

It shows the space in which the run clusters: encoder or projector output. Only `covey run` and
`covey simulate` call this, when the result has been printed: on a real federation no embedding
and no picture leaves a site.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from client.gallery.layout import flattened
from client.gallery.thumbnails import tile
from client.statistics.assigned import assign
from client.statistics.clusters import nearest
from common.clustering.kmeans import kmeans
from common.data import ImageData
from common.data.planned import planned_data, remaining
from common.record import writer
from common.record.data_map import DataMap
from common.utils import seeds
from common.utils.seeds import derive_seed
from deploy.evaluation.trained import Trained, load_trained

IMAGES = 1000
PICTURES, NEAREST = 240, 8  # in all, and of a cluster


def write_map(folder: Path) -> None:
    """Write `map.json`: t-SNE (van der Maaten and Hinton, JMLR 2008) of a seeded sample."""
    trained = load_trained(folder)
    plan = trained.plan
    sample, points = embedded_sample(trained, IMAGES)
    centres = trained.centroids
    if centres is None:
        generator = seeds.generator(trained.device, plan.seed, "map")
        centres = kmeans(points, plan.clusters, spherical=True, generator=generator).centroids
    clusters = nearest(points, centres)
    flat = flattened(points.cpu().numpy(), derive_seed(plan.seed, "map") % 2**32)
    classes = None if sample.labels is None else torch.from_numpy(sample.labels).tolist()
    drawn = DataMap(
        method="t-SNE",
        images=len(points),
        x=tuple(round(float(v), 2) for v in flat[:, 0]),
        y=tuple(round(float(v), 2) for v in flat[:, 1]),
        cluster=clusters.tolist(),
        classes=classes,
        central=_central(sample, points, centres),
    )
    writer.write_map(folder, drawn)


def _central(sample: ImageData, points: Tensor, centres: Tensor) -> tuple[tuple[str, ...], ...]:
    """Of each cluster the pictures of the sample that are nearest to its centre."""
    each = max(1, min(NEAREST, PICTURES // len(centres)))
    found = assign(points, centres)
    distance, cluster = found.distance.cpu().numpy(), found.cluster.cpu().numpy()
    shown = []
    for number in range(len(centres)):
        rows = np.flatnonzero(cluster == number)
        rows = rows[np.argsort(distance[rows], kind="stable")][:each]
        shown.append(tuple(tile(sample.images[row]) for row in rows))
    return tuple(shown)


def embedded_sample(trained: Trained, images: int) -> tuple[ImageData, Tensor]:
    """So many of the run's images, drawn by its seed, and their embeddings (N, d)."""
    data = remaining(trained.folder, planned_data(trained.plan))
    rng = np.random.default_rng(derive_seed(trained.plan.seed, "map"))
    sample = data.subset(rng.permutation(len(data.images))[:images])
    trained.estimate_statistics(sample)
    return sample, trained.embed(sample, trained.space)
