"""Places of embeddings in the plane.

As a program (`python -m client.gallery.layout SEED`) it takes embeddings from its standard input
and writes their places to its standard output, both as NumPy arrays.
"""

import io
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Enough to see the structure, in a quarter of the time of t-SNE's defaults on half as many points
# again (`benchmarks/map_speed.py`).
ITERATIONS = 400
ANGLE = 0.7  # of Barnes and Hut's approximation: the larger, the coarser
PATIENCE = 600.0  # seconds for another process
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


def flattened_apart(points: NDArray[np.float32], seed: int) -> NDArray[Any]:
    """The same places, by a process of its own: a site that waits for the next run does not keep
    what t-SNE needs, which is 110 MB of libraries. `OSError` or `subprocess.SubprocessError` where
    that process fails."""
    given = io.BytesIO()
    np.save(given, points, allow_pickle=False)
    done = subprocess.run(
        [sys.executable, "-m", "client.gallery.layout", str(seed)],
        input=given.getvalue(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=PATIENCE,
    )
    return np.asarray(np.load(io.BytesIO(done.stdout), allow_pickle=False))


def main() -> None:
    """Read, lay out, write."""
    points = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    np.save(sys.stdout.buffer, flattened(points, int(sys.argv[1])), allow_pickle=False)


if __name__ == "__main__":
    main()
