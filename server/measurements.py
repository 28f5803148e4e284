"""What the server concludes from the sites' sums, counts and centroids in one exchange.

Sums are folded as replies arrive and do not depend on their order. From contingency tables that are
added up come the exact global ACC, NMI, ARI and purity; from moments the linear probe and the
effective rank. No label and no embedding is ever here.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import metrics
from common.clustering.centroids import Centroids
from common.config.options import Stage
from common.protocol.messages import Counts, Floats, Reply
from server.aggregation import ExactSum, Suspects
from server.aggregation.robust import Defence
from server.clustering.merging import Merged
from server.clustering.rules import CENTROID_RULES

Sums = NDArray[np.float64]

RIDGE = 1e-4  # of the probe, relative to the mean squared embedding: only against singular sums


class Measurements:
    """One exchange's measurements. `width`: of the embeddings; `images`: the most there can be;
    `defence`: against Byzantine sites (None: everything is added up)."""

    def __init__(
        self, width: int, clusters: int, classes: int, images: int, defence: Defence | None = None
    ) -> None:
        self.width, self.clusters, self.classes = width, clusters, classes
        self._bound = float(images)
        self._defence = defence or Defence(Suspects())
        self._kept: dict[str, list[tuple[int, Sums]]] = {}
        self._steps: list[Counts] = []
        self._examples: list[int] = []
        self._centroids: list[tuple[str, Centroids]] = []
        self._local: dict[str, Counts] = {}
        self._tables: dict[str, Counts] = {}
        self._sizes: dict[str, Counts] = {}
        self._vectors: dict[str, ExactSum] = {}
        self._sums: dict[str, list[float]] = {}
        self._seconds: dict[str, list[float]] = {}

    def fold(self, reply: Reply) -> None:
        """Add one site's part."""
        if reply.centroids is not None:
            self._centroids.append((reply.site, reply.centroids))
        if "local" in reply.tables:
            self._local[reply.site] = reply.tables["local"]
        for name, table in reply.tables.items():
            if name != "local":
                self._add_table(name, table)
        vectors: dict[str, NDArray[np.float64]] = dict(reply.vectors)
        self._examples.append(reply.examples)
        if "lloyd" in reply.tables:
            self._steps.append(reply.tables["lloyd"].sum(axis=1))
        for name, moment in reply.moments.items():
            if moment.size and self._is_defended(name):
                self._kept.setdefault(name, []).append((reply.examples, moment))
            else:
                vectors[name] = moment.ravel()
        for name, vector in vectors.items():
            if vector.size:
                total = self._vectors.setdefault(name, ExactSum(vector.size, 4 * self._bound))
                total.add(vector)
        for name, value in reply.sums.items():
            self._sums.setdefault(name, []).append(value)
        for name, value in reply.seconds.items():
            self._seconds.setdefault(name, []).append(value)

    def sum(self, name: str) -> float | None:
        """The sites' sum of `name`; None where no site sent it."""
        return math.fsum(self._sums[name]) if name in self._sums else None

    def inertia(self, number: int) -> float | None:
        """The sites' inertia by set `number` of a step's centroids."""
        name = f"inertia.{number}"
        if self._defence.centroids and name in self._sums:
            return self._defence.inertia(self._sums[name], self._examples)
        return self.sum(name)

    def share(self, part: str, whole: str) -> float | None:
        """Σ part / Σ whole; None where a site sent neither."""
        top, bottom = self.sum(part), self.sum(whole)
        return top / bottom if top is not None and bottom else None

    def losses(self) -> dict[str, float]:
        """Mean loss terms per image seen."""
        seen = self.sum("seen") or 1.0
        names = sorted(name for name in self._sums if name.startswith("loss."))
        return {name.removeprefix("loss."): math.fsum(self._sums[name]) / seen for name in names}

    def seconds(self) -> dict[str, float]:
        """Mean over the sites of each phase's seconds."""
        return {k: math.fsum(v) / len(v) for k, v in sorted(self._seconds.items())}

    @property
    def centroids(self) -> list[tuple[str, Centroids]]:
        """The sites' own centroids, by name, sorted; defended ones with the counts that they are
        believed."""
        return sorted(self._defence.believed(self._centroids), key=lambda item: item[0])

    def merge(self, rule: str, previous: Centroids | None, seed: int) -> Merged | None:
        """The sites' centroids as one set, and where each local cluster went: their tables are
        added up under the global clusters. None if no site sent any."""
        if not self._centroids:
            return None
        merged = CENTROID_RULES[rule](self.centroids, previous, self.clusters, seed)
        for site, table in self._local.items():
            regrouped = np.zeros((self.clusters, table.shape[1]), np.int64)
            np.add.at(regrouped, merged.members[site], table)
            self._add_table("centroids", regrouped)
        return merged

    def sizes(self, by: str) -> list[int]:
        """Images in each cluster, by what assigned them."""
        return [int(n) for n in self._sizes[by]] if by in self._sizes else []

    def table(self, by: str) -> Counts | None:
        """Contingency counts (K, C) over the sites that have labels."""
        return self._tables.get(by)

    def clustering(self, by: str) -> dict[str, float]:
        """ACC, NMI, ARI and purity where there are labels; assignment entropy always."""
        scores: dict[str, float] = {}
        table = self.table(by)
        if table is not None and table.sum():
            scores |= metrics.clustering_scores(table)
        if by in self._sizes and self._sizes[by].sum():
            scores["entropy"] = metrics.assignment_entropy(self._sizes[by])
        return scores

    def agreement(self) -> dict[str, float]:
        """NMI between the clusters of one view of each image and those of another, over all sites:
        it needs no label. 0 where all lie in one cluster, and nothing is told apart."""
        table = self._tables.get("views")
        if table is None or not table.sum():
            return {}
        told_apart = min(np.count_nonzero(table.sum(axis)) for axis in (0, 1)) > 1
        return {"agreement": metrics.nmi(table) if told_apart else 0.0}

    def spread(self) -> dict[str, float]:
        """`std`: mean per-dimension standard deviation of the unit-length embeddings times √d:
        about 1 when healthy, 0 when collapsed."""
        images = self.sum("images")
        if not images or "sum" not in self._vectors:
            return {}
        mean = self._vectors["sum"].total() / images
        variance = self._vectors["squares"].total() / images - mean**2
        return {"std": metrics.healthy_std(np.sqrt(variance.clip(min=0)))}

    def rank(self) -> dict[str, float]:
        """`effective_rank` of the embeddings' covariance over all sites."""
        gram = self.moment("gram")
        if gram is None or gram[-1, -1] < 2:
            return {}
        mean = gram[-1, :-1] / gram[-1, -1]
        covariance = gram[:-1, :-1] / gram[-1, -1] - np.outer(mean, mean)
        return {"effective_rank": metrics.effective_rank(covariance)}

    def probe(self) -> Floats | None:
        """The linear probe (d + 1, C): least squares over the union of the sites, from sums."""
        gram = self.moment("gram")
        cross = self.moment("cross")
        if gram is None or cross is None:
            return None
        return metrics.solve_probe(gram, cross, RIDGE).astype(np.float32)

    def moment(self, name: str) -> Sums | None:
        """The sum of a moment over the sites: `gram` (d + 1, d + 1), `cross` (d + 1, C), `within`
        and `affinity` (d, d), `sums` (K, d); None where no site sent it. A defended one is what it
        would be if all sites were like those that are believed."""
        if name in self._kept:
            kept = self._kept[name]
            if name == "sums":
                return self._defence.steps([sums for _, sums in kept], self._steps)
            return self._defence.total(kept)
        if name not in self._vectors:
            return None
        total = self._vectors[name].total()
        if name == "cross":
            return total.reshape(self.width + 1, -1)
        return total.reshape(-1, self.width + (name == "gram"))

    def moments(self, names: Collection[str]) -> dict[str, Sums]:
        """Those moments that replies without were refused."""
        found = {name: self.moment(name) for name in names}
        return {name: moment for name, moment in found.items() if moment is not None}

    def _is_defended(self, name: str) -> bool:
        return self._defence.centroids if name == "sums" else bool(self._defence.aggregation)

    def _add_table(self, name: str, table: Counts) -> None:
        sizes = table.sum(axis=1)
        self._sizes[name] = self._sizes.get(name, np.zeros_like(sizes)) + sizes
        if name == "views" or (self.classes and table.shape[1] == self.classes):
            self._tables[name] = self._tables.get(name, np.zeros_like(table)) + table


def clusterer(stage: Stage, measured: Measurements) -> str:
    """What assigns images to clusters: "head" where the stage says so and there is one."""
    return "head" if stage.clusters_from == "head" and measured.sizes("head") else "centroids"


def final_figures(assessed: Measurements, scored: Measurements, by: str) -> dict[str, Any]:
    """A stage's figures of merit, from its last two exchanges."""
    return drop_none(
        {
            **scored.clustering(by),
            "knn": assessed.share("knn_correct", "held"),
            "linear": scored.share("probe_correct", "held"),
            "silhouette": scored.share("silhouette", "images"),
            **scored.agreement(),
            **assessed.rank(),
            **assessed.spread(),
        }
    )


def drop_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that have a value."""
    return {key: value for key, value in values.items() if value is not None}
