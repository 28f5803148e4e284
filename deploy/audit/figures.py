"""What a run is worth on images that no site has, beside runs that never had the data."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from client.statistics.clusters import nearest
from common import metrics
from common.record.metrics import METRICS
from common.record.reader import RunRecord, read_run
from deploy.audit.looking import Looking
from deploy.evaluation.pooled import probed

OWN_CLUSTER = "own_cluster"
NAMES = {key: METRICS[key].title for key in ("nmi", "acc", "knn", "linear", "agreement")} | {
    OWN_CLUSTER: "Own cluster"
}
ABOUT = {key: METRICS[key].about for key in NAMES if key in METRICS} | {
    OWN_CLUSTER: "Of test images whose class was forgotten, the share in a cluster that is mostly "
    "of that class. It need not be 0: a class can stand apart without ever having been seen."
}
WORSE = 0.01  # below runs without the data, that is still called as good


@dataclass(frozen=True)
class Figure:
    """One figure of the `original` run, the `forgotten` one, and each run `without` the data."""

    key: str
    original: float
    forgotten: float
    without: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the runs without the data."""
        return statistics.fmean(self.without)

    @property
    def spread(self) -> float:
        """Their standard deviation (of the sample), which is what seeds do."""
        return statistics.stdev(self.without) if len(self.without) > 1 else 0.0

    @property
    def gap(self) -> float:
        """The forgotten run's figure less their mean."""
        return self.forgotten - self.mean

    @property
    def worse(self) -> bool:
        """Whether forgetting has cost more than seeds do."""
        return self.key != OWN_CLUSTER and -self.gap > max(WORSE, 2 * self.spread)


def compare(original: Looking, forgotten: Looking, references: Sequence[Looking]) -> list[Figure]:
    """All figures that there are."""
    first, second = figures(original), figures(forgotten)
    others = [figures(reference) for reference in references]
    return [
        Figure(key, first[key], second[key], tuple(other[key] for other in others))
        for key in NAMES
        if all(key in each for each in (first, second, *others))
    ]


def reported(
    original: RunRecord, forgotten: RunRecord, references: Sequence[RunRecord]
) -> list[Figure]:
    """Those that the runs themselves report at their end, of the sites' own images."""
    first, second, *others = (
        dict(record.stages[-1].figures) if record.stages else {}
        for record in (original, forgotten, *references)
    )
    return [
        Figure(key, first[key], second[key], tuple(other[key] for other in others))
        for key in NAMES
        if all(key in each for each in (first, second, *others))
    ]


def figures(look: Looking) -> dict[str, float]:
    """NMI and ACC of the test images by the federation's centroids; kNN and probe, fitted on what
    is left; `own_cluster`; and the agreement that the run itself has measured at its end."""
    record = read_run(look.folder)
    last = record.stages[-1].figures if record.stages else {}
    found = {"agreement": last["agreement"]} if "agreement" in last else {}
    material, trained = look.material, look.trained
    if material.test is None or material.data.labels is None:
        return found
    assert material.test.labels is not None and trained.centroids is not None
    truth, classes = torch.from_numpy(material.test.labels), len(material.data.classes)
    clusters = nearest(look.points("test", material.test), trained.centroids).cpu()
    k = len(trained.centroids)
    table = metrics.contingency(clusters.numpy(), material.test.labels, k, classes)
    found |= {"nmi": metrics.nmi(table), "acc": metrics.accuracy(table)}
    found |= _probed(look, truth)
    if material.classes_gone:
        found[OWN_CLUSTER] = own_cluster(table, material.classes_gone)
    return found


def _probed(look: Looking, truth: torch.Tensor) -> dict[str, float]:
    """Those of the encoder alone: once for all runs that have the same one."""
    material, done = look.material, look.kept.figures
    if look.encoder not in done:
        left, test = material.data.subset(material.kept), material.test
        assert left.labels is not None and test is not None
        h, h_test = (
            F.normalize(look.outputs(name, data), dim=1)
            for name, data in (("left", left), ("test", test))
        )
        fit = (h, torch.from_numpy(left.labels).to(h.device))
        held = (h_test, truth.to(h.device))
        done[look.encoder] = probed(fit, held, len(material.data.classes))
    return done[look.encoder]


def own_cluster(table: metrics.Counts, classes: Sequence[int]) -> float:
    """Of the images of `classes` in `table` (K, C), the share in clusters where their class is the
    largest."""
    largest = table.argmax(axis=1)
    own = sum(int(table[largest == c, c].sum()) for c in classes)
    return own / max(1, int(table[:, list(classes)].sum()))
