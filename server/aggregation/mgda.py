"""Multi-gradient descent: the step that no site's objective is made worse by.

With Δ_k = w_k - w what site k changed, over all parameters as one vector, and unit u_k = Δ_k/‖Δ_k‖:
λ = argmin ‖Σ_k λ_k u_k‖² over λ ≥ 0, Σ λ_k = 1 (the point of the sites' convex hull that is nearest
to 0), and w ← w + s·Σ_k λ_k u_k, with s = Σ_k n_k‖Δ_k‖ / Σ_k n_k. Then Δ_k · Σ_j λ_j u_j ≥ 0 for
every k: the step has no component against any site. Where the sites cancel, λ u is 0, and the model
stays. Sites count by direction alone: their sizes n_k only enter the length s and the running
statistics (`.buffers`), which are plain weighted means.
A site that changed nothing has no direction: it shortens s and is left out of the hull.
The length is ours: with it one site gives its own model, and equal updates give FedAvg's. The
authors' step has the length η·‖2·Σ λ_k u_k‖ with η .1, whatever the sites' updates measure, and
their solver stops after 20 steps from the weights n_k (raised to a power).

All updates are kept until the last has arrived: the memory grows with the number of sites (4 bytes
a parameter and site), unlike the mean's. λ needs the inner products of all pairs.

Sources: Désidéri, "Multiple-gradient descent algorithm", Comptes Rendus Mathematique 350, 2012; as
FedU2's server step: Liao et al., CVPR 2024 (arXiv 2403.16398), and the authors' code.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from common.protocol.layout import BUFFERS, Layout
from common.protocol.messages import Floats, Groups
from server.aggregation.mean import WeightedMean
from server.aggregation.rows import Doubles, Rows


class MultiGradient:
    """Folds the sites' groups and steps along the min-norm point of their directions."""

    def __init__(self, layout: Layout, received: Groups, examples: int) -> None:
        self._received = received
        # Checks every reply, and gives the buffers.
        self._mean = WeightedMean({name: len(array) for name, array in received.items()}, examples)
        self._updates: list[tuple[bytes, int, Groups]] = []

    @property
    def examples(self) -> int:
        """Images behind what was folded."""
        return self._mean.examples

    def fold(self, groups: Groups, examples: int) -> None:
        """Keep one site's arrays. `ValueError`, before anything is kept, for what does not fit."""
        self._mean.fold(groups, examples)
        own = {n: np.array(g, np.float32) for n, g in groups.items() if not n.endswith(BUFFERS)}
        digest = hashlib.sha256(b"".join(own[name].tobytes() for name in sorted(own)))
        self._updates.append((digest.digest(), examples, own))

    def result(self) -> dict[str, Floats]:
        """The stepped parameters and the mean buffers. `ValueError` if nothing was folded."""
        new = self._mean.result()
        # In an order of their own, so that rounding does not know the order of arrival.
        self._updates.sort(key=lambda update: update[:2])
        changes = {
            name: Rows([own[name] for _, _, own in self._updates], received)
            for name, received in self._received.items()
            if not name.endswith(BUFFERS)
        }
        gram = np.zeros((len(self._updates), len(self._updates)))
        for rows in changes.values():
            gram += rows.gram()
        sizes = np.array([examples for _, examples, _ in self._updates])
        coefficients = step_coefficients(gram, sizes)
        for name, rows in changes.items():
            step = rows.by_columns(lambda block: coefficients @ block)
            new[name] = (rows.origin.astype(np.float64) + step).astype(np.float32)
        return new


def step_coefficients(gram: Doubles, sizes: NDArray[np.int64]) -> Doubles:
    """c (K,) such that the step is Σ_k c_k Δ_k, from the inner products (K, K) of the Δ_k and the
    sites' sizes (K,)."""
    lengths = np.sqrt(gram.diagonal())
    moved = np.flatnonzero(lengths)
    coefficients = np.zeros(len(lengths))
    if len(moved):
        directions = gram[np.ix_(moved, moved)] / np.outer(lengths[moved], lengths[moved])
        step = sizes @ lengths / sizes.sum()
        coefficients[moved] = step * min_norm_weights(directions) / lengths[moved]
    return coefficients


def min_norm_weights(gram: Doubles) -> Doubles:
    """λ (K,) ≥ 0 that sum to 1 and minimise λᵀGλ, for the inner products G (K, K) of unit vectors.

    With RᵀR = G, the y ≥ 0 that minimises ‖Ry‖² + (Σy - 1)² is λ up to its scale, since for each
    scale only the first term knows the direction; non-negative least squares finds it exactly, by
    active sets.
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or not len(gram):
        raise ValueError(f"need inner products (K, K) of K >= 1 vectors, got {gram.shape}")
    sites = len(gram)
    values, vectors = np.linalg.eigh(gram)
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    aim = np.append(np.zeros(sites), 1.0)
    scaled: Doubles = nnls(np.vstack([root, np.ones(sites)]), aim, maxiter=100 * sites)[0]
    weights: Doubles = scaled / scaled.sum()
    return weights
