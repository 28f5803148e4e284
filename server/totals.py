"""What the sites' answers to one exchange add up to: the one place where a declared sum is added.

Every sum of every exchange passes through `Totals.fold` as answers arrive, by its declaration and
not by its name; the order of arrival changes no bit. Kept by site are lists, tables of a site's own
clusters (added when it is known which global clusters those are), and sums that are
put to the vote because some sites may be Byzantine.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.clustering.centroids import Centroids
from common.protocol.declaration import CLASSES, OWN, Sum
from common.protocol.messages import Counts, Reply
from server.aggregation import ExactSum, Suspects
from server.aggregation.robust import Defence

Sums = NDArray[np.float64]

LEAST_BOUND = 4.0  # of an exact sum by image, so that a smaller one has the same fixed point


@dataclass(frozen=True)
class Table:
    """Images by (cluster, something): `sizes` (K,) over all sites; `cells` (K, C) over those
    `sites` that could say the something, None where none could."""

    sizes: Counts
    cells: Counts | None = None
    sites: int = 0


class Totals:
    """One exchange's totals. `classes`: over all sites; `images`: the most there can be; `defence`:
    against Byzantine sites (None: everything is added up)."""

    def __init__(self, classes: int, images: int, defence: Defence | None = None) -> None:
        self.lists: list[tuple[str, Centroids]] = []
        self.own_tables: dict[str, Counts] = {}
        self._classes = classes
        self._images = float(images)
        self._defence = defence or Defence(Suspects())
        self._exact: dict[str, ExactSum] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._tables: dict[str, Table] = {}
        self._voted: dict[str, list[tuple[int, Sums]]] = {}
        self._by_centroid: set[str] = set()  # of what is voted on
        self._votes: list[Counts] = []
        self._examples: list[int] = []
        self._numbers: dict[str, list[float]] = {}
        self._seconds: dict[str, list[float]] = {}

    def fold(self, reply: Reply) -> None:
        """Add one site's answer, which has passed the checks."""
        self._examples.append(reply.examples)
        if reply.centroids is not None:
            self.lists.append((reply.site, reply.centroids))
        for declared in reply.exchange.sums:
            values = getattr(reply, declared.part).get(declared.name)
            if values is None or not values.size:
                continue
            if declared.counts:
                self._add_counts(reply.site, declared, values)
            else:
                self._add_values(reply.examples, declared, values)
        for name, value in reply.sums.items():
            self._numbers.setdefault(name, []).append(value)
        for name, value in reply.seconds.items():
            self._seconds.setdefault(name, []).append(value)

    def number(self, name: str) -> float | None:
        """The sites' total of a single number; None where no site sent it."""
        return math.fsum(self._numbers[name]) if name in self._numbers else None

    def numbers(self) -> dict[str, float]:
        """All single numbers, each as `number` gives it."""
        return {name: math.fsum(values) for name, values in self._numbers.items()}

    def voted_number(self, name: str) -> float | None:
        """The same; where centroids are defended, as the median site has it."""
        if self._defence.centroids and name in self._numbers:
            return self._defence.inertia(self._numbers[name], self._examples)
        return self.number(name)

    def family(self, prefix: str) -> dict[str, float]:
        """The totals of all numbers called `prefix`.something, by the something."""
        start = f"{prefix}."
        names = sorted(name for name in self._numbers if name.startswith(start))
        return {name.removeprefix(start): math.fsum(self._numbers[name]) for name in names}

    def seconds(self) -> dict[str, float]:
        """Mean over the sites of each phase's seconds."""
        return {k: math.fsum(v) / len(v) for k, v in sorted(self._seconds.items())}

    def sum(self, name: str) -> Sums | None:
        """A vector or moment over the sites, in its shape; None where no site sent it. A defended
        one is what it would be if all sites were like those that are believed."""
        if name in self._voted:
            kept = self._voted[name]
            if name in self._by_centroid:
                return self._defence.steps([sums for _, sums in kept], self._votes)
            return self._defence.total(kept)
        if name not in self._exact:
            return None
        return self._exact[name].total().reshape(self._shapes[name])

    def added(self, declared: Sum) -> Sums | None:
        """What was declared, over the sites, counts as numbers, too; None where no site sent it."""
        if not declared.counts:
            return self.sum(declared.name)
        table = self.table(declared.name)
        return None if table is None or table.cells is None else table.cells.astype(np.float64)

    def table(self, name: str) -> Table | None:
        """Counts over the sites; None where no site sent any."""
        return self._tables.get(name)

    def regrouped(self, members: Mapping[str, NDArray[np.int64]], clusters: int) -> Table:
        """The tables of the sites' own clusters, each row under the global cluster that `members`
        (site -> one for each of its own) says."""
        total = Table(np.zeros(clusters, np.int64))
        for site, table in self.own_tables.items():
            regrouped = np.zeros((clusters, table.shape[1]), np.int64)
            np.add.at(regrouped, members[site], table)
            total = self._with(total, regrouped, by_class=True)
        return total

    def _add_counts(self, site: str, declared: Sum, counts: Counts) -> None:
        if declared.by_centroid and self._defence.centroids:
            self._votes.append(counts.sum(axis=1))
        if declared.shape[0] is OWN:
            self.own_tables[site] = counts
            return
        total = self._tables.get(declared.name, Table(np.zeros(len(counts), np.int64)))
        by_class = CLASSES in declared.shape
        self._tables[declared.name] = self._with(total, counts, by_class)

    def _add_values(self, examples: int, declared: Sum, values: Sums) -> None:
        name = declared.name
        if self._is_voted(declared):
            self._voted.setdefault(name, []).append((examples, values))
            self._by_centroid |= {name} if declared.by_centroid else set()
            return
        bound = max(LEAST_BOUND, declared.bound) * self._images
        total = self._exact.setdefault(name, ExactSum(values.size, bound))
        self._shapes[name] = values.shape
        total.add(values.ravel())

    def _is_voted(self, declared: Sum) -> bool:
        if declared.by_centroid:
            return self._defence.centroids
        return declared.part == "moments" and bool(self._defence.aggregation)

    def _with(self, total: Table, counts: Counts, by_class: bool) -> Table:
        """`total` and one site's counts; by class only those of a site that has labels."""
        sizes = total.sizes + counts.sum(axis=1)
        if by_class and not (self._classes and counts.shape[1] == self._classes):
            return Table(sizes, total.cells, total.sites)
        cells = counts if total.cells is None else total.cells + counts
        return Table(sizes, cells, total.sites + 1)
