"""k-FED at a site: few, well separated local clusters, found once.

Dennis, Li and Smith, "Heterogeneity for the Win: One-Shot Federated Clustering", ICML 2021 (arXiv
2103.00697), algorithm 1, which is Awasthi and Sheffet's (APPROX 2012, arXiv 1206.3204) with k' in
place of k. For the site's points A (N, d):

1. Â = A V Vᵀ with V the top k' right singular vectors of A; k' centres ν of Â;
2. S_r = {i : 3·‖Â_i - ν_r‖ ≤ ‖Â_i - ν_s‖ for every s ≠ r}: the points that are ν_r's beyond doubt;
3. θ_r = mean of A over S_r; Lloyd's steps over A from θ.

Where ours differs:

- Embeddings have unit length, so means of A and Lloyd's steps are spherical; step 1 is not, as in
  the paper: distances of unit vectors are cosines already, and a projection shortens what it loses.
- ν come from k-means++ and Lloyd's steps (the paper: any 10-approximation; the authors' code:
  k-means++ alone). A ν_r beyond doubt of nobody keeps its whole cluster (there, a mean of nothing).
- k' is the number of clusters of the federation, less where the site has fewer distinct points or
  fewer images than `min-count` for each; clusters below `min-count` are dissolved. The paper knows
  k' of each site, and its guarantee needs it small (k' ≤ √k).
"""

import torch
from torch import Tensor

from client.statistics.clusters import LocalClusters, large_enough, most
from common.clustering.kmeans import kmeans

SURE = 3.0  # times nearer to the own centre than to any other: the paper's 1/3


def k_fed_clusters(
    points: Tensor, k: int, min_count: int, generator: torch.Generator
) -> LocalClusters:
    """Local clusters of unit-length `points` (N, d), at most `k`."""
    k = most(len(points), k, min_count)
    projected = project(points, k)
    first = kmeans(projected, k, generator=generator)
    sure = beyond_doubt(projected, first.centroids, first.labels)
    found = kmeans(
        points,
        len(first.centroids),
        init=means(points, first.labels, sure, len(first.centroids)),
        spherical=True,
        generator=generator,
    )
    return large_enough(points, found.centroids, found.counts, min_count)


def project(points: Tensor, k: int) -> Tensor:
    """Coordinates (N, k') of `points` (N, d) along their top singular vectors, k' = min(k, N, d).

    By the eigenvectors of the smaller of A Aᵀ and Aᵀ A, in float64. The signs of the coordinates
    are arbitrary; distances are not.
    """
    wide = points.double()
    if len(wide) < wide.shape[1]:
        values, vectors = torch.linalg.eigh(wide @ wide.T)
        coordinates = vectors * values.clamp_min(0).sqrt()
    else:
        coordinates = wide @ torch.linalg.eigh(wide.T @ wide).eigenvectors
    top: Tensor = coordinates.flip(1)[:, :k].to(points.dtype)
    return top


def beyond_doubt(points: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """Which (N,) of `points` (N, d) are three times nearer to their own of `centres` (k, d), given
    by `labels` (N,), than to any other; all of a cluster that has none."""
    distances = torch.cdist(points, centres)
    own = distances.gather(1, labels[:, None])
    others = distances.scatter(1, labels[:, None], torch.inf).amin(dim=1)
    sure = SURE * own[:, 0] <= others
    known = torch.bincount(labels[sure], minlength=len(centres)) > 0
    return sure | ~known[labels]


def means(points: Tensor, labels: Tensor, chosen: Tensor, k: int) -> Tensor:
    """Mean (k, d) of the `chosen` (N,) of `points` (N, d) in each cluster; none may be empty."""
    hot = torch.nn.functional.one_hot(labels, k).to(points.dtype) * chosen[:, None]
    return (hot.T @ points) / hot.sum(0)[:, None]
