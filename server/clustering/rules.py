"""The sites' centroids as one set: count-weighted spherical k-means, and the other ways by name.

The result depends on the set of local centroids and the seed, not on the order of arrival. To add
another way to merge, write it in a file of its own with the same signature and property tests, and
enter it in `CENTROID_RULES`; `server/clustering/merging.py` keeps the clusters' identities for all
of them.
"""

from collections.abc import Callable, Sequence

import torch

from common.clustering.centroids import Centroids, unit
from common.clustering.kmeans import kmeans
from common.utils.seeds import generator
from server.clustering.kfed import merge_k_fed
from server.clustering.merging import Members, Merged, Points, merge_by

RESTARTS = 16  # there are few local centroids, so many restarts cost little


def merge_centroids(
    local: Sequence[tuple[str, Centroids]],
    previous: Centroids | None,
    k: int,
    seed: int,
    restarts: int = RESTARTS,
) -> Merged:
    """Cluster all local centroids, each with its count as weight, into `k` global ones
    (`merge_by`)."""

    def k_means(points: Points, counts: Members) -> tuple[Points, Members]:
        found = kmeans(
            torch.from_numpy(points),
            k,
            weights=torch.from_numpy(counts),
            restarts=restarts,
            generator=generator("cpu", seed, "merge"),
            spherical=True,
        )
        return unit(found.centroids.numpy()), found.labels.numpy()

    return merge_by(k_means, local, previous, k)


CENTROID_RULES: dict[
    str, Callable[[Sequence[tuple[str, Centroids]], Centroids | None, int, int], Merged]
]
CENTROID_RULES = {
    "k-means": merge_centroids,
    "k-fed": merge_k_fed,
    "lloyd": merge_centroids,
    "robust-k-means": merge_centroids,
    "robust-lloyd": merge_centroids,
}
"""name -> how the sites' centroids become the global ones. Of the robust ones, whose centroids have
a say is settled before (`server/aggregation/robust.py`)."""

STEPPING = ("lloyd", "robust-lloyd")
"""The names that go on from there in more exchanges (`server/clustering/lloyd.py`)."""
