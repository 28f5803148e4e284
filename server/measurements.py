"""What the server concludes from the sites' sums, counts and centroids in one exchange.

Sums are folded as replies arrive and do not depend on their order. From contingency tables that are
added up come the exact global ACC, NMI, ARI and purity; from moments the linear probe and the
effective rank. No label and no embedding is ever here.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common import metrics
from common.clustering.centroids import Centroids
from common.config.options import Stage
from common.protocol.messages import Floats, Reply
from server.aggregation import Suspects
from server.aggregation.robust import Defence
from server.clustering.merging import Merged
from server.clustering.rules import CENTROID_RULES
from server.totals import Table, Totals

Sums = NDArray[np.float64]

RIDGE = 1e-4  # of the probe, relative to the mean squared embedding: only against singular sums


class Measurements:
    """One exchange's measurements. `clusters`: of the federation; `classes`: over all sites;
    `images`: the most there can be; `defence`: against Byzantine sites (None: there are none).

    Only `fold` changes anything."""

    def __init__(
        self, clusters: int, classes: int, images: int, defence: Defence | None = None
    ) -> None:
        self.clusters = clusters
        self.totals = Totals(classes, images, defence)
        self._defence = defence or Defence(Suspects())

    def fold(self, reply: Reply) -> None:
        """Add one site's part."""
        self.totals.fold(reply)

    def inertias(self, sets: int) -> Sums:
        """The sites' inertia (sets,) by each of the sets of centroids of a step."""
        found = [self.totals.voted_number(f"inertia.{number}") for number in range(sets)]
        return np.array(found, np.float64)

    def share(self, part: str, whole: str) -> float | None:
        """Σ part / Σ whole; None where a site sent neither."""
        top, bottom = self.totals.number(part), self.totals.number(whole)
        return top / bottom if top is not None and bottom else None

    def losses(self) -> dict[str, float]:
        """Mean loss terms per image seen."""
        seen = self.totals.number("seen") or 1.0
        return {name: total / seen for name, total in self.totals.family("loss").items()}

    @property
    def centroids(self) -> list[tuple[str, Centroids]]:
        """The sites' own centroids, by name, sorted; defended ones with the counts that they are
        believed."""
        return sorted(self._defence.believed(self.totals.lists), key=lambda item: item[0])

    def merge(self, rule: str, previous: Centroids | None, seed: int) -> Merged | None:
        """The sites' centroids as one set, and where each local cluster went; None if no site sent
        any."""
        if not self.totals.lists:
            return None
        return CENTROID_RULES[rule](self.centroids, previous, self.clusters, seed)

    def assigned(self, by: str, merged: Merged | None = None) -> Table | None:
        """Images by (global cluster, class), by what assigned them: "head", or "centroids", which
        are the sites' own tables, row by row under the cluster that `merged` says. None where no
        site counted any."""
        if by != "head" and merged is not None:
            return self.totals.regrouped(merged.members, self.clusters)
        return self.totals.table(by)

    def agreement(self) -> dict[str, float]:
        """NMI between the clusters of one view of each image and those of another, over all sites:
        it needs no label. 0 where all lie in one cluster, and nothing is told apart."""
        views = self.totals.table("views")
        if views is None or views.cells is None or not views.cells.sum():
            return {}
        told_apart = min(np.count_nonzero(views.cells.sum(axis)) for axis in (0, 1)) > 1
        return {"agreement": metrics.nmi(views.cells) if told_apart else 0.0}

    def spread(self) -> dict[str, float]:
        """`std`: mean per-dimension standard deviation of the unit-length embeddings times √d:
        about 1 when healthy, 0 when collapsed."""
        images = self.totals.number("images")
        total, squares = self.totals.sum("sum"), self.totals.sum("squares")
        if not images or total is None or squares is None:
            return {}
        mean = total / images
        variance = squares / images - mean**2
        return {"std": metrics.healthy_std(np.sqrt(variance.clip(min=0)))}

    def rank(self) -> dict[str, float]:
        """`effective_rank` of the embeddings' covariance over all sites."""
        gram = self.totals.sum("gram")
        if gram is None or gram[-1, -1] < 2:
            return {}
        mean = gram[-1, :-1] / gram[-1, -1]
        covariance = gram[:-1, :-1] / gram[-1, -1] - np.outer(mean, mean)
        return {"effective_rank": metrics.effective_rank(covariance)}

    def probe(self) -> Floats | None:
        """The linear probe (d + 1, C): least squares over the union of the sites, from sums."""
        gram = self.totals.sum("gram")
        cross = self.totals.sum("cross")
        if gram is None or cross is None:
            return None
        return metrics.solve_probe(gram, cross, RIDGE).astype(np.float32)


def clustering(assigned: Table | None) -> dict[str, float]:
    """ACC, NMI, ARI and purity where there are labels; assignment entropy always."""
    scores: dict[str, float] = {}
    if assigned is None:
        return scores
    if assigned.cells is not None and assigned.cells.sum():
        scores |= metrics.clustering_scores(assigned.cells)
    if assigned.sizes.sum():
        scores["entropy"] = metrics.assignment_entropy(assigned.sizes)
    return scores


def sizes_of(assigned: Table | None) -> list[int]:
    """Images in each cluster."""
    return [] if assigned is None else [int(n) for n in assigned.sizes]


def clusterer(stage: Stage, measured: Measurements) -> str:
    """What assigns images to clusters: "head" where the stage says so and there is one."""
    return "head" if stage.clusters_from == "head" and measured.assigned("head") else "centroids"


def drop_none(values: Mapping[str, float | None]) -> dict[str, float]:
    """The entries that have a value."""
    return {key: value for key, value in values.items() if value is not None}
