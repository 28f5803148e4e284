"""Figures of merit from counts and sums: what may leave a site is enough to compute them.

A contingency table (K, C) counts images by (cluster, class). Tables of several sites add up, so the
scores below are exactly those on the pooled labels. numpy and scipy only.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lstsq
from scipy.optimize import linear_sum_assignment

Counts = NDArray[np.int64]
Matrix = NDArray[np.float64]

# Of `healthy_std`. Untrained encoders start at 0.06 (ResNet-18, MNIST) to 0.57 (convnet): their
# outputs are positive, so they share a mean; a collapsed one goes to 0.
COLLAPSED = 0.05


def contingency(clusters: NDArray[Any], labels: NDArray[Any], k: int, c: int) -> Counts:
    """Counts (k, c) of the pairs (clusters[i], labels[i]), both (N,).

    `ValueError` for lengths that differ and for values outside 0..k-1 and 0..c-1.
    """
    if clusters.shape != labels.shape or clusters.ndim != 1:
        raise ValueError(f"clusters {clusters.shape} and labels {labels.shape} do not fit")
    for what, values, bound in (("clusters", clusters, k), ("labels", labels, c)):
        if values.size and not 0 <= values.min() <= values.max() < bound:
            raise ValueError(
                f"{what} from {values.min()} to {values.max()}, expected 0..{bound - 1}"
            )
    flat = clusters.astype(np.int64) * c + labels.astype(np.int64)
    return np.bincount(flat, minlength=k * c).reshape(k, c).astype(np.int64)


def accuracy(table: Counts) -> float:
    """Share of images in the class of their cluster under the best one-to-one matching
    (Hungarian; Kuhn, 1955). With K ≠ C what is left unmatched counts as wrong. In [0, 1]."""
    rows, columns = linear_sum_assignment(table, maximize=True)
    return int(table[rows, columns].sum()) / _total(table)


def nmi(table: Counts) -> float:
    """Mutual information over the arithmetic mean of the two entropies, in [0, 1] (scikit-learn's
    default; Vinh, Epps and Bailey, JMLR 2010). 1 where both sides are a single group."""
    joint = table / _total(table)
    joint = joint[joint.sum(axis=1) > 0][:, joint.sum(axis=0) > 0]
    if joint.shape == (1, 1):
        return 1.0
    by_cluster, by_class = joint.sum(axis=1), joint.sum(axis=0)
    filled = joint > 0
    expected = np.outer(by_cluster, by_class)
    information = float(np.sum(joint[filled] * np.log(joint[filled] / expected[filled])))
    if information <= np.finfo(np.float64).eps:
        return 0.0
    mean = (_entropy(by_cluster) + _entropy(by_class)) / 2
    return min(information / mean, 1.0)


def ari(table: Counts) -> float:
    """Adjusted Rand index: agreement on pairs, 0 by chance, 1 at best (Hubert and Arabie, 1985).

    1 where no pair disagrees, also for a single image. Whole numbers until the last division."""
    total = _total(table)
    both = sum(int(n) ** 2 for n in table.ravel())
    clusters = sum(int(n) ** 2 for n in table.sum(axis=1))
    classes = sum(int(n) ** 2 for n in table.sum(axis=0))
    together, only_class, only_cluster = both - total, classes - both, clusters - both
    apart = total**2 - clusters - classes + both
    if only_class == 0 and only_cluster == 0:
        return 1.0
    spread = (together + only_class) * (only_class + apart)
    spread += (together + only_cluster) * (only_cluster + apart)
    return 2 * (together * apart - only_class * only_cluster) / spread


def purity(table: Counts) -> float:
    """Share of images in the largest class of their cluster, in (0, 1]; it grows with K."""
    return int(table.max(axis=1).sum()) / _total(table)


def clustering_scores(table: Counts) -> dict[str, float]:
    """`acc`, `nmi`, `ari` and `purity` of a table with at least one image."""
    return {
        "acc": accuracy(table),
        "nmi": nmi(table),
        "ari": ari(table),
        "purity": purity(table),
    }


def assignment_entropy(sizes: NDArray[Any]) -> float:
    """Entropy of the clusters' sizes (K,) over log K: 1 when equal, 0 when all images are in one.

    1 for K = 1, where nothing can be uneven. `ValueError` without images.
    """
    shares = sizes / _total(sizes)
    return _entropy(shares) / math.log(len(sizes)) if len(sizes) > 1 else 1.0


def effective_rank(covariance: Matrix) -> float:
    """exp of the entropy of the normalised singular values of a covariance (d, d): from 1 to d, 0
    for a covariance of zeros (Roy and Vetterli, EUSIPCO 2007)."""
    values = np.linalg.eigvalsh(covariance).clip(min=0)
    total = values.sum()
    return math.exp(_entropy(values / total)) if total > 0 else 0.0


def healthy_std(std: NDArray[Any]) -> float:
    """Mean per-dimension standard deviation (d,) of unit-length embeddings times √d: about 1 when
    they fill the sphere, 0 when collapsed to a point (Chen and He, CVPR 2021, section 4.1)."""
    return float(std.mean() * math.sqrt(len(std)))


def is_collapsed(value: float) -> bool:
    """Whether a `healthy_std` is that of collapsed embeddings; NaN counts as collapsed."""
    return not value >= COLLAPSED


def solve_probe(gram: Matrix, cross: Matrix, ridge: float) -> Matrix:
    """Ridge regression onto one-hot classes from sums: weights (d + 1, C), the last row biases.

    With h the embedding and a 1 appended: `gram` Σ h hᵀ (d + 1, d + 1), `cross` Σ h yᵀ (d + 1, C).
    `ridge` is relative to the mean of the first d diagonal entries of `gram`; the bias is not
    penalised. Where the sums are singular: the solution of least norm.
    """
    width = len(gram) - 1
    penalty = np.full(width + 1, ridge * np.trace(gram[:width, :width]) / max(width, 1))
    penalty[-1] = 0.0
    system = gram.astype(np.float64) + np.diag(penalty)
    try:
        lower = np.linalg.cholesky(system)
    except np.linalg.LinAlgError:
        return np.asarray(lstsq(system, cross)[0], np.float64)
    return np.linalg.solve(lower.T, np.linalg.solve(lower, cross.astype(np.float64)))


def _entropy(shares: NDArray[Any]) -> float:
    """Shannon entropy in nats of shares that sum to 1."""
    filled = shares[shares > 0]
    return max(0.0, float(-np.sum(filled * np.log(filled))))


def _total(counts: NDArray[Any]) -> int:
    total = int(counts.sum())
    if total < 1:
        raise ValueError("no images in the counts")
    return total
