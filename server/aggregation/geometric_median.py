"""The geometric median: the point with the least sum of distances to the sites.

Δ ← argmin_v Σ_k ‖v - Δ_k‖ with Δ_k = w_k - w what site k changed (not squared, which would give the
mean). It is a mean of the Δ_k weighted by 1/‖Δ - Δ_k‖, found by repeating just that (Weiszfeld's
algorithm), here on the inner products alone, so that the changes are read twice whatever the number
of steps. Where the median is nearly a site's own point those steps become ever shorter, hundreds of
thousands of them; so each two are extrapolated (SQUAREM), which takes about ten. Parameters and
running statistics are two vectors. Each site counts once, whatever number of images it claims.

What it promises, with n ≥ 2f + 1 and any point c: ‖Δ - c‖ ≤ (n - f)/√(n(n - 2f))·max ‖Δ_k - c‖ over
the honest k (lemma 2.1 of Minsker, "Geometric median and robust estimation in Banach spaces",
Bernoulli 2015). Unlike a median number by number it does not depend on the axes, and as a weighted
mean of what the sites sent it keeps what such means keep: of matrices without negative eigenvalues
it is one, too.

Source: Pillutla, Kakade and Harchaoui, "Robust Aggregation for Federated Learning" (RFA), IEEE TSP
2022 (arXiv 1912.13445), algorithm 2, without weighting by images and to convergence. SQUAREM:
Varadhan and Roland, "Simple and Globally Convergent Methods for Accelerating the Convergence of Any
EM Algorithm", Scandinavian Journal of Statistics 2008, scheme S3.
"""

from collections.abc import Sequence

import numpy as np

from server.aggregation.rows import Doubles, Rows, squared_distances

STEPS = 1000
TINY = 1e-30  # no division by zero
CONVERGED = 1e-10  # the most that a weight still changes
NEAR = 1e-6  # of the median distance: nearer than this is at the point itself


def geometric_median(parts: Sequence[Rows], byzantine: int) -> list[Doubles]:
    """The geometric median of each part's changes."""
    return [_median_of(part) for part in parts]


def weights(distances: Doubles) -> Doubles:
    """Those (n,) with which the points' weighted mean is their geometric median, from squared
    distances (n, n)."""
    found = np.full(len(distances), 1 / len(distances))
    for _ in range(STEPS):
        once, _ = _weiszfeld(distances, found)
        twice, total = _weiszfeld(distances, once)
        if np.abs(twice - once).max() < CONVERGED:
            return twice
        further = _extrapolated(found, once, twice)
        found = twice
        if (further >= 0).all():
            beyond, total_there = _weiszfeld(distances, further)
            if total_there <= total:
                found = beyond
    return found


def _weiszfeld(distances: Doubles, found: Doubles) -> tuple[Doubles, float]:
    """The weights (n,) after one step from `found`, and the sum of distances at `found`."""
    to_mean = distances @ found - found @ distances @ found / 2
    lengths: Doubles = np.sqrt(to_mean.clip(min=0))
    nearest = NEAR * float(np.median(lengths)) or 1.0  # most points are at the same place
    pulls: Doubles = 1 / np.maximum(lengths, nearest)
    return pulls / pulls.sum(), float(lengths.sum())


def _extrapolated(start: Doubles, once: Doubles, twice: Doubles) -> Doubles:
    """Where the steps from `start` are heading: as far as they shrink slowly."""
    step, bend = once - start, twice - 2 * once + start
    stretch = max(1.0, float(np.linalg.norm(step)) / max(float(np.linalg.norm(bend)), TINY))
    return start + 2 * stretch * step + stretch**2 * bend


def _median_of(part: Rows) -> Doubles:
    found = weights(squared_distances(part.gram()))
    return part.by_columns(lambda block: found @ block)
