"""`covey evaluate --federated`: kNN, probe and clustering from sums over the run's own sites.

Each site of the partition that lies in the run's folder measures its part as in a run
(`client/statistics/measure.py`): right answers of its own kNN, moments of its training images, the
contingency table of the federation's centroids. The parts are added up and concluded from as on the
server (`server/measurements.py`). For a federation of real sites nothing is left to do: at a
stage's end the run has logged exactly these figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from client.dataset import SiteImages
from client.statistics import measure
from client.statistics.clusters import nearest
from common.data import ImageData
from common.data.partition import Partition
from common.data.planned import planned_data
from common.protocol.messages import Reply
from common.utils.errors import UserError
from deploy.evaluation.trained import Trained
from server.measurements import Measurements, clustering

FROZEN = ("clustering", "knn", "linear")
"""Protocols under which the encoder stays as it is: what sums over sites are enough for."""


@dataclass(frozen=True)
class _Site:
    """One site: `h` (n, d) its encoder outputs, `z` (n, p) those in the clustering space, `labels`
    (n,) in the federation's numbering; `train` and `held` rows of them."""

    name: str
    h: Tensor
    z: Tensor
    labels: Tensor
    train: Tensor
    held: Tensor


def evaluate_federated(
    folder: Path, trained: Trained, protocols: Sequence[str], dataset: str
) -> dict[str, Any]:
    """The figures over the run's own partition; `UserError` where there is none."""
    if dataset:
        raise UserError("--federated is over the run's own partition: it takes no --dataset")
    if trained.local_statistics():
        raise UserError(
            "with batchnorm = local each site has running statistics of its own, which are not "
            "published: the run's own figures at a stage's end are the federated ones"
        )
    if set(protocols) - set(FROZEN) and not set(FROZEN) <= set(protocols):
        raise UserError(f"--federated has only {', '.join(FROZEN)}: fine-tuning pools images")
    sites = [_open(trained, *part) for part in _parts(folder, trained)]
    images = sum(len(site.labels) for site in sites)
    classes = len(trained.run.classes)
    figures: dict[str, Any] = {
        "images": images,
        "held_out": sum(len(site.held) for site in sites),
        "sites": len(sites),
        "clustering_space": trained.space,
        "compare": _comparison(trained),
    }
    measured = Measurements(trained.plan.clusters, classes, images)
    for site in sites:
        for reply in _look(trained, site, classes):
            measured.fold(reply)
    if "clustering" in protocols:
        figures["centroids"] = clustering(measured.assigned("centroids"))
    if "knn" in protocols:
        figures["knn"] = measured.share("knn_correct", "held")
    if "linear" in protocols:
        probe = measured.probe()
        assert probe is not None
        right = sum(
            measure.probe_correct(site.h[site.held], site.labels[site.held], probe)
            for site in sites
        )
        figures["linear"] = right / figures["held_out"]
    return figures


def _comparison(trained: Trained) -> str:
    """How the run's own figures compare, in a sentence."""
    said = "For real sites, the run's own figures at a stage's end are exactly these"
    but = []
    if trained.space == "projector":
        but.append("kNN and probe there are on the projector's output")
    if trained.plan.stages[-1].clusters_from == "head":
        but.append("clusters there are the head's")
    return f"{said}; {', '.join(but)}." if but else f"{said}."


def _parts(folder: Path, trained: Trained) -> list[tuple[str, ImageData]]:
    """The sites of the run and their images, which must be those that they had in it."""
    path = folder / "partition.json"
    if not path.exists():
        raise UserError(
            f"{folder} has no partition.json: its sites hold their own data, and the run's own "
            "figures at a stage's end are exactly what --federated computes"
        )
    partition = Partition.load(path)
    data = planned_data(trained.plan)
    if data.labels is None:
        raise UserError(f"{trained.plan.dataset} has no labels to evaluate with")
    if not set(data.classes) <= set(trained.run.classes):
        raise UserError(f"the classes of {trained.plan.dataset} are not those of the run")
    trained.check(data)
    parts = [
        (f"site-{i}", data.subset(rows)) for i, rows in enumerate(partition.sites) if len(rows)
    ]
    for name, part in parts:
        known = trained.run.sites.get(name)
        if known is not None and known.fingerprint != part.fingerprint:
            raise UserError(f"the images of {name} are not those that it had in the run")
    return parts


def _open(trained: Trained, name: str, data: ImageData) -> _Site:
    """What a site computes for itself, split as in the run."""
    images = SiteImages(name, data, trained.device)
    own = images.dataset(trained.plan, trained.run.classes)
    assert own.labels is not None
    h = trained.embed(data)
    z = h if trained.space == "encoder" else trained.embed(data, trained.space)
    return _Site(name, h, z, own.labels, own.train, own.held)


def _look(trained: Trained, site: _Site, classes: int) -> tuple[Reply, Reply]:
    """What a site would send: sums of an assessment, counts of a score."""
    train, held = site.train, site.held
    sums = {
        "held": len(held),
        "knn_correct": measure.knn_correct(
            site.h[train], site.labels[train], site.h[held], site.labels[held]
        ),
    }
    moments = measure.moments(site.h[train], site.labels[train], classes, trained.plan.min_count)
    assert trained.centroids is not None
    assigned = nearest(site.z, trained.centroids)
    counts = measure.count_table(assigned, site.labels, len(trained.centroids), classes)
    return (
        Reply("assess", site.name, 0, len(train), sums=sums, moments=moments),
        Reply("score", site.name, 0, len(train), tables={"centroids": counts}),
    )
