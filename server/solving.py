"""Between the sites and a stage's solver: what a statistic's exchange brings, and what it adds up
to."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.clustering.centroids import Centroids
from common.protocol.exchanges import EXCHANGES
from common.solvers.base import Landmarks, Statistic, Trial
from server.clustering.landmarks import near_their_own, shared_landmarks
from server.measurements import Measurements


def scores_of(statistic: Statistic) -> Centroids | None:
    """What the sites score by in a trial, as the centroids that a message brings; None where the
    statistic is another one."""
    if not isinstance(statistic, Trial):
        return None
    scores = statistic.scores().float().numpy()
    return Centroids(scores, np.ones(len(scores), np.int64))


def sums_for(
    statistic: Statistic, measured: Measurements, seed: int
) -> Mapping[str, NDArray[np.float64]]:
    """What the statistic is solved from, by name."""
    if isinstance(statistic, Landmarks):
        lists = measured.centroids
        points = shared_landmarks(lists, statistic.in_all, seed)
        return {"points": points, **(near_their_own(lists) if statistic.compares else {})}
    found = {each.name: measured.totals.added(each) for each in EXCHANGES[statistic.kind].sums}
    return {name: total for name, total in found.items() if total is not None}
