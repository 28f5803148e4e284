"""Centroids: K unit-length points with the number of images behind each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Centroids:
    """`points` (K, d) float32 of unit length, `counts` (K,) int64: images behind each point."""

    points: NDArray[np.float32]
    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.counts.shape != self.points.shape[:1]:
            raise ValueError(
                f"centroids: points {self.points.shape} and counts {self.counts.shape} do not fit"
            )


def of_width(centroids: Centroids | None, width: int) -> Centroids | None:
    """The centroids, unless they are of an embedding of another width."""
    return centroids if centroids is not None and centroids.points.shape[1] == width else None


def unit(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows scaled to unit length (float32); a row of zeros stays zero."""
    wide = points.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(norms > 0, norms, 1)).astype(np.float32)
