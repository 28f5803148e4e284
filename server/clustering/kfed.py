"""k-FED at the server: global clusters from the sites' local centres, in one go.

Dennis, Li and Smith, "Heterogeneity for the Win: One-Shot Federated Clustering", ICML 2021 (arXiv
2103.00697), algorithm 2. With Θ all local centres:

1. M starts with one centre, and takes the θ of Θ that is farthest from all of M until |M| = k;
2. Lloyd's heuristic from M over Θ gives the sets τ_1 ... τ_k and their centres.

Where ours differs:

- M starts with the centre of the most images, so nothing here is random. The paper starts with all
  the centres of any one site, as they are of different clusters. Here a site may have as many local
  clusters as there are global ones, and then its own would be all that is ever chosen.
- Centres are compared by cosine, and have unit length.
- Lloyd's steps go on until they settle, as in the authors' code. The paper takes one, which settles
  it where its separation holds; with k local clusters a site, that is not so.
- In step 2 a local centre has its number of images as weight, so that a global one lies where the
  images' mean is, however they are spread (in the paper each counts once). Counts do not decide the
  seeds.
"""

from collections.abc import Sequence

import numpy as np
import torch

from common.clustering.centroids import Centroids, unit
from common.clustering.kmeans import kmeans
from common.utils.seeds import generator
from server.clustering.merging import Members, Merged, Points, merge_by

SAME = 1e-6  # 1 - cos below which two centres are one, to the precision of float32


def merge_k_fed(
    local: Sequence[tuple[str, Centroids]], previous: Centroids | None, k: int, seed: int
) -> Merged:
    """All local centroids as `k` global ones (`merge_by`); the seed changes nothing."""

    def k_fed(points: Points, counts: Members) -> tuple[Points, Members]:
        seeds = farthest_first(points, int(counts.argmax()), k)
        found = kmeans(
            torch.from_numpy(points),
            len(seeds),
            weights=torch.from_numpy(counts),
            init=torch.from_numpy(points[seeds]),
            generator=generator("cpu", seed, "merge"),
            spherical=True,
        )
        return unit(found.centroids.numpy()), found.labels.numpy()

    return merge_by(k_fed, local, previous, k)


def farthest_first(points: Points, start: int, k: int) -> Members:
    """Indices of at most `k` of unit-length `points` (n, d): `start`, then each time the one whose
    nearest chosen one is the farthest; fewer where all are chosen or equal to a chosen one."""
    chosen = [start]
    distances = 1 - points @ points[start]
    while len(chosen) < k and distances.max() > SAME:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, 1 - points @ points[chosen[-1]])
    return np.array(chosen, np.int64)
