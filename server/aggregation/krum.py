"""Krum: the update, or the mean of the n - f updates, with the nearest neighbours.

With n sites, f of which may be Byzantine, s_i = Σ ‖w_i - w_j‖² over the n - f - 2 sites j that are
nearest to i. Krum takes the w_i with the least s_i; multi-Krum the mean of those with the m least,
here m = n - f. Each site counts once, whatever number of images it claims.

What it promises, with n ≥ 2f + 3 and D the largest distance between two honest updates: each update
that is taken is within √(n - f - 2)·D of an honest one. (The n - f honest ones each have n - f - 2
honest neighbours, so the n - f least scores are at most (n - f - 2)·D²; and of n - f - 2 neighbours
one at least is honest.)

An update is one vector of parameters and running statistics together, or a site could send good
parameters with ruinous statistics. So that neither drowns the other (that is ours), each of the two
parts is measured in the median length of the sites' changes of it, which is between the honest
ones' lengths.

Source: Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
NeurIPS 2017, sections 3 and 4 (multi-Krum).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from server.aggregation.rows import Doubles, Rows, squared_distances


def krum(parts: Sequence[Rows], byzantine: int) -> list[Doubles]:
    """The changes of the one site with the least score."""
    return _mean_of(parts, best(_distances(parts), byzantine, 1))


def multi_krum(parts: Sequence[Rows], byzantine: int) -> list[Doubles]:
    """The mean change of the n - f sites with the least scores."""
    return _mean_of(parts, best(_distances(parts), byzantine, len(parts[0].rows) - byzantine))


def scores(distances: Doubles, byzantine: int) -> Doubles:
    """s (n,) from squared distances (n, n): of each site to its n - f - 2 nearest others."""
    n = len(distances)
    others = np.sort(distances[~np.eye(n, dtype=bool)].reshape(n, n - 1), axis=1)
    found: Doubles = others[:, : n - byzantine - 2].sum(axis=1)
    return found


def best(distances: Doubles, byzantine: int, chosen: int) -> NDArray[np.int64]:
    """Indices, ascending, of the `chosen` sites with the least scores; of equal ones the first."""
    order = np.argsort(scores(distances, byzantine), kind="stable")
    found: NDArray[np.int64] = np.sort(order[:chosen])
    return found


def _distances(parts: Sequence[Rows]) -> Doubles:
    """Squared distances (n, n) between the sites' changes, each part in its own unit."""
    total = np.zeros((len(parts[0].rows), len(parts[0].rows)))
    for part in parts:
        gram = part.gram()
        unit = np.median(gram.diagonal()) or 1.0  # of a part that most sites left as it was
        total += squared_distances(gram) / unit
    return total


def _mean_of(parts: Sequence[Rows], chosen: NDArray[np.int64]) -> list[Doubles]:
    return [part.by_columns(lambda block: block[chosen].mean(axis=0)) for part in parts]
