"""A 2-D map of the embeddings, for the report, where the data is on this machine.

It shows the space in which the run clusters: encoder or projector output. Only `covey run` and
`covey simulate` call this, when the result has been printed: on a real federation no embedding
leaves a site.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from torch import Tensor

from client.statistics.clusters import nearest
from common.clustering.kmeans import kmeans
from common.data import ImageData
from common.data.planned import planned_data
from common.protocol.messages import Floats
from common.record import writer
from common.record.schema import DataMap
from common.utils import seeds
from common.utils.seeds import derive_seed
from deploy.evaluation.trained import Trained, load_trained

# Enough to see the structure, in a quarter of the time of t-SNE's defaults on half as many points
# again (`benchmarks/map_speed.py`).
IMAGES = 1000
ITERATIONS = 400
ANGLE = 0.7  # of Barnes and Hut's approximation: the larger, the coarser
FEW = 4  # different points below which there is nothing to lay out
DIGITS = 5  # after the point, of unit vectors, to which points are alike


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
    )
    writer.write_map(folder, drawn)


def embedded_sample(trained: Trained, images: int) -> tuple[ImageData, Tensor]:
    """So many of the run's images, drawn by its seed, and their embeddings (N, d)."""
    data = planned_data(trained.plan)
    rng = np.random.default_rng(derive_seed(trained.plan.seed, "map"))
    sample = data.subset(rng.permutation(len(data.images))[:images])
    trained.estimate_statistics(sample)
    return sample, trained.embed(sample, trained.space)


def flattened(points: Floats, seed: int) -> NDArray[Any]:
    """Places (N, 2) of `points` (N, d) by t-SNE. Where fewer than `FEW` of them differ, which t-SNE
    cannot take (it ends the process), those that are alike lie together, in a row."""
    different, which = np.unique(points.round(DIGITS), axis=0, return_inverse=True)
    if len(different) < FEW:
        return np.stack([which.ravel(), np.zeros(len(points))], axis=1)
    return np.asarray(
        TSNE(
            init="pca",
            perplexity=min(30, max(2, len(points) // 4)),
            max_iter=ITERATIONS,
            angle=ANGLE,
            random_state=seed,
        ).fit_transform(points)
    )
