"""Norm clipping: no site moves the model farther than the median site does.

With Δ_k = w_k - w what site k changed: w ← w + mean_k Δ_k·min(1, M/‖Δ_k‖). In the paper M is a
number that somebody sets; here it is the median of the ‖Δ_k‖ of the round, so it follows the
training and needs no setting. Parameters and running statistics are clipped apart. Each site counts
once, whatever number of images it claims.

With fewer than half of the sites Byzantine, M is no larger than the largest honest ‖Δ_k‖: f of n
sites move the model by at most f/n of that. It bounds what they do and does not undo it: f sites
that always push one way are not found out.

Source: Sun et al., "Can You Really Backdoor Federated Learning?", 2019 (arXiv 1911.07963), section
4, norm thresholding, without the noise.
"""

from collections.abc import Sequence

import numpy as np

from server.aggregation.rows import Doubles, Rows


def norm_clipping(parts: Sequence[Rows], byzantine: int) -> list[Doubles]:
    """The mean change of each part, the sites' clipped to the median length."""
    return [clipped_mean(part, clip_factors(lengths(part))) for part in parts]


def clipped_mean(part: Rows, factors: Doubles) -> Doubles:
    """The mean of the changes, each times its factor (n,)."""
    return part.by_columns(lambda block: factors @ block / len(factors))


def lengths(part: Rows) -> Doubles:
    """‖Δ_k‖ (n,)."""
    squares = np.zeros(len(part.rows))
    for _, block in part.blocks():
        squares += np.square(block).sum(axis=1)
    found: Doubles = np.sqrt(squares)
    return found


def clip_factors(norms: Doubles) -> Doubles:
    """min(1, M/‖Δ_k‖) (n,) with M the median of `norms` (n,)."""
    longest = np.median(norms)
    return np.minimum(1.0, longest / np.where(norms > 0, norms, 1.0))
