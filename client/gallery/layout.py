"""Places of embeddings in the plane."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Enough to see the structure, in a quarter of the time of t-SNE's defaults on half as many points
# again (`benchmarks/map_speed.py`).
ITERATIONS = 400
ANGLE = 0.7  # of Barnes and Hut's approximation: the larger, the coarser
FEW = 4  # different points below which there is nothing to lay out
DIGITS = 5  # after the point, of unit vectors, to which points are alike


def flattened(points: NDArray[np.float32], seed: int) -> NDArray[Any]:
    """Places (N, 2) of `points` (N, d) by t-SNE (van der Maaten and Hinton, JMLR 2008). Where fewer
    than `FEW` of them differ, which t-SNE cannot take (it ends the process), those that are alike
    lie together, in a row."""
    from sklearn.manifold import TSNE  # noqa: PLC0415 (slow to import)

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
