"""How many clusters? What is known of a clustering of each size, from sums alone.

- **Silhouette**, simplified: how much nearer images are to their own centre than to the next.
- **Agreement beyond chance** (Cohen's kappa) of two views of each image, and of two clusterings of
  one size from other starts. A number of clusters that the images do not have is one that neither
  a view nor a start repeats (Ben-Hur, Elisseeff and Guyon, PSB 2002; Lange et al., Neural
  Computation 2004).
- **Merge cost**: by how much of all squared distances those inside the clusters would grow, were
  the two that are cheapest to join joined (Ward, JASA 1963). Near 0: one of them is not needed.
- **Spread**: what of all squared distances lies inside the clusters.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.record.later import DOUBTFUL, STABLE, Candidate

Sums = NDArray[np.float64]
Sizes = NDArray[np.number]
NEARLY = 0.05  # of the best score: what is as good, for all that can be told
LITTLE = 0.1  # silhouette under which clusters are hardly there


def beyond_chance(agreement: float, one: Sizes, other: Sizes) -> float:
    """Cohen's kappa of two labellings that agree on a share of the images, with these sizes of
    clusters: 1 where they agree on all, 0 where as often as by chance. 0 for a single cluster."""
    chance = float(np.sum(one / max(one.sum(), 1) * (other / max(other.sum(), 1))))
    return (agreement - chance) / (1 - chance) if chance < 1 else 0.0


def spread(sums: Sums, counts: Sums) -> tuple[float, float]:
    """(squared distances inside clusters, all of them), of unit-length points with these `sums`
    (K, d) and `counts` (K,) by cluster."""
    images, kept = counts.sum(), counts > 0
    means = np.square(sums[kept]).sum(axis=1) / counts[kept]
    return float(images - means.sum()), float(images - np.square(sums.sum(0)).sum() / images)


def merge_cost(sums: Sums, counts: Sums) -> float:
    """What the cheapest joining of two clusters adds to the squared distances inside them: the
    least n_a n_b / (n_a + n_b) · ‖m_a - m_b‖². 0 where there are not two."""
    kept = counts > 0
    n, means = counts[kept], sums[kept] / counts[kept, None]
    if len(n) < 2:
        return 0.0
    apart = np.square(means[:, None] - means[None]).sum(axis=2)
    costs = n[:, None] * n[None] / (n[:, None] + n[None]) * apart
    return float(costs[np.triu_indices(len(n), 1)].min())


def suggest(candidates: Sequence[Candidate]) -> tuple[int, str]:
    """The smallest number of clusters that does nearly as well as the one with the best score (as
    the rule of one standard error: Breiman et al., Classification and Regression Trees, 1984), and
    how sure that is, in words."""
    most = max(each.score for each in candidates)
    near = [each for each in candidates if each.score >= (1 - NEARLY) * most]
    chosen, *others = near
    doubts = []
    if others:
        told = _told([each.clusters for each in others])
        doubts.append(f"{told} {'do' if len(others) > 1 else 'does'} as well")
    if len(candidates) == 1:
        doubts.append("no other number was tried")
    elif chosen in (candidates[0], candidates[-1]):
        doubts.append("it is at the end of the range: try a wider one")
    if chosen.silhouette < LITTLE:
        doubts.append("the clusters hardly stand apart")
    if chosen.stability < DOUBTFUL:
        doubts.append("other starts or other views give other clusters")
    if not doubts:
        sure = "clearly" if chosen.stability >= STABLE else "with some doubt"
        return chosen.clusters, f"{sure}: no other number in the range does as well"
    return chosen.clusters, "; ".join(doubts)


def _told(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
