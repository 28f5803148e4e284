"""`covey evaluate`: a finished run's encoder on pooled data, for who holds the data.

The same definitions as in the federation (`client/statistics/measure.py`, `common/metrics.py`), but
with all images in one place: k-means over the union, kNN, linear probe and fine-tuning fitted on
the training images and scored on the data set's own test split, which no site has seen. Without one
(`digits`) a seeded fifth is held out of the fit; the sites have trained on those images, without
their labels. With `federated`, `deploy/evaluation/federated.py` does it instead.

Clusters are looked for where the run's centroids lie (encoder or projector output); all else is
computed on the encoder's output.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from client.statistics import measure
from client.statistics.clusters import nearest
from common import metrics
from common.clustering.kmeans import kmeans
from common.config.checks import OWN
from common.data import ImageData, Preparation, load, load_test
from common.data.planned import remaining
from common.utils import seeds
from common.utils.errors import UserError, unknown
from deploy.evaluation import finetune
from deploy.evaluation.federated import FROZEN, evaluate_federated
from deploy.evaluation.table import show
from deploy.evaluation.trained import Trained, load_trained
from server.measurements import RIDGE

HELD_OUT = 0.2  # of a data set without a test split of its own
PROTOCOLS = (*FROZEN, *finetune.PROTOCOLS)


@dataclass(frozen=True)
class Asked:
    """What to evaluate. `dataset`: other than the run's; `resize`: give its images the encoder's
    side; `protocols`: of `PROTOCOLS`; `repeats`: draws of labels; `federated`: site by site."""

    dataset: str = ""
    resize: bool = False
    protocols: tuple[str, ...] = FROZEN
    repeats: int = 1
    federated: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class Pooled:
    """Training images, and the held-out ones that all is scored on; `labels` (N,) and `truth` (M,)
    theirs, on the device."""

    train: ImageData
    test: ImageData
    labels: Tensor
    truth: Tensor


def parse_protocols(text: str) -> tuple[str, ...]:
    """`"knn,semi-1"` -> `("knn", "semi-1")`; "all" is all of them."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in (*PROTOCOLS, "all"):
            raise unknown("protocol", name, (*PROTOCOLS, "all"))
    if not names:
        raise UserError(f"protocol: expected some of {', '.join(PROTOCOLS)}, or all")
    return PROTOCOLS if "all" in names else tuple(name for name in PROTOCOLS if name in names)


def evaluate_run(folder: Path, asked: Asked, console: Console) -> dict[str, Any]:
    """Print and return the figures of the run in `folder`."""
    trained = load_trained(folder, asked.device)
    if trained.untrained:
        raise UserError(f"{folder}: its encoder is untrained (the weights are the initial ones)")
    if trained.plan.partition == OWN and not asked.dataset:
        raise UserError(
            f"{folder}: its sites hold their own images: --dataset FOLDER names some of yours with "
            "labels (subfolders are classes); the sites' own scores are in report.html"
        )
    figures: dict[str, Any] = {
        "run": folder.name,
        "dataset": asked.dataset or trained.plan.dataset,
        "federated": asked.federated,
    }
    if asked.federated:
        figures |= evaluate_federated(folder, trained, asked.protocols, asked.dataset)
    else:
        figures |= evaluate_pooled(trained, asked)
    show(figures, console)
    return figures


def evaluate_pooled(trained: Trained, asked: Asked) -> dict[str, Any]:
    """The figures on all images in one place."""
    pooled = pool(trained, asked)
    trained.estimate_statistics(pooled.train)
    figures: dict[str, Any] = {
        "images": len(pooled.labels),
        "held_out": len(pooled.truth),
        "clustering_space": trained.space,
    }
    if set(asked.protocols) & set(FROZEN):
        figures |= _frozen(trained, pooled, asked.protocols)
    for name in asked.protocols:
        if name in finetune.PROTOCOLS:
            figures[name] = semi_supervised(trained, pooled, name, asked.repeats)
    return figures


def pool(trained: Trained, asked: Asked) -> Pooled:
    """The images to fit on and those to score on; `UserError` where there are none, or they do not
    fit the encoder."""
    plan = trained.plan
    spec = asked.dataset or plan.dataset
    # A folder's photographs have no side in common: they get the one that the sites' got.
    scale = asked.resize or plan.side or Path(spec).is_dir()
    side = trained.side if scale else 0
    how = trained.how if Path(spec).is_dir() else Preparation(side=side, window=trained.how.window)
    train = load(spec, images=0 if asked.dataset else plan.images, seed=plan.seed, how=how)
    if not asked.dataset:
        train = remaining(trained.folder, train)
    test = load_test(spec, how=how)
    if test is None:
        train, test = _hold_out(train, plan.seed)
    if train.labels is None or test.labels is None:
        raise UserError(f"{spec} has no labels to evaluate with")
    if not len(train.labels) or not len(test.labels):
        raise UserError(f"{spec} has too few images to hold some of them out")
    if train.side != trained.side and train.channels == trained.channels:
        raise UserError(
            f"the encoder takes images of side {trained.side}, those of {spec} have "
            f"{train.side}: --resize scales them"
        )
    trained.check(train)
    trained.check(test)
    device = trained.device
    return Pooled(
        train,
        test,
        torch.from_numpy(train.labels).to(device),
        torch.from_numpy(test.labels).to(device),
    )


def _hold_out(data: ImageData, seed: int) -> tuple[ImageData, ImageData]:
    order = torch.randperm(
        len(data.images), generator=seeds.generator("cpu", seed, "hold-out")
    ).numpy()
    held = round(len(order) * HELD_OUT)
    return data.subset(order[held:]), data.subset(order[:held])


def _frozen(trained: Trained, pooled: Pooled, protocols: tuple[str, ...]) -> dict[str, Any]:
    """Clustering, kNN and linear probe of embeddings that stay as they are."""
    figures: dict[str, Any] = {}
    h = trained.embed(pooled.train)
    if "clustering" in protocols:
        z = h if trained.space == "encoder" else trained.embed(pooled.train, trained.space)
        classes = len(pooled.train.classes)
        figures |= clustering(trained, z, pooled.labels, classes)
        if trained.centroids is not None:
            z = trained.embed(pooled.test, trained.space)
            figures["centroids_held_out"] = by_centroids(trained, z, pooled.truth, classes)
    if "knn" in protocols or "linear" in protocols:
        h_test, classes = trained.embed(pooled.test), len(pooled.train.classes)
        figures |= probed((h, pooled.labels), (h_test, pooled.truth), classes, protocols)
    return figures


def probed(
    fit: tuple[Tensor, Tensor],
    held: tuple[Tensor, Tensor],
    classes: int,
    protocols: Sequence[str] = FROZEN,
) -> dict[str, float]:
    """Accuracy of "knn" and "linear" on embeddings and labels (M, d), (M,) that are `held` out of
    those (N, d), (N,) that they `fit`."""
    figures = {}
    if "knn" in protocols:
        figures["knn"] = measure.knn_correct(*fit, *held) / len(held[1])
    if "linear" in protocols:
        moments = measure.moments(*fit, classes, min_count=1)
        probe = metrics.solve_probe(moments["gram"], moments["cross"], RIDGE)
        figures["linear"] = measure.probe_correct(*held, probe.astype("float32")) / len(held[1])
    return figures


def clustering(trained: Trained, z: Tensor, labels: Tensor, classes: int) -> dict[str, Any]:
    """Scores of pooled k-means on embeddings z (N, d), and of the federation's centroids where
    they fit."""
    found_by_run = None if trained.centroids is None else len(trained.centroids)
    clusters = found_by_run or trained.plan.clusters or classes  # after a split not the plan's
    generator = seeds.generator(trained.device, trained.plan.seed, "evaluate")
    found = kmeans(z, clusters, spherical=True, generator=generator)

    table = measure.count_table(found.labels, labels, clusters, classes)
    figures = {"kmeans": metrics.clustering_scores(table)}
    if trained.centroids is not None:
        figures["centroids"] = by_centroids(trained, z, labels, classes)
    return figures


def by_centroids(trained: Trained, z: Tensor, labels: Tensor, classes: int) -> dict[str, float]:
    """Scores of the nearest of the federation's centroids to embeddings z (N, d)."""
    centroids = trained.centroids
    assert centroids is not None
    table = measure.count_table(nearest(z, centroids), labels, len(centroids), classes)
    return metrics.clustering_scores(table)


def semi_supervised(trained: Trained, pooled: Pooled, name: str, repeats: int) -> dict[str, Any]:
    """Accuracy after fine-tuning on each of `repeats` draws of labels, its mean and standard
    deviation (of the sample; None for a single draw)."""
    accuracies, labelled = [], 0
    for repeat in range(repeats):
        tuned = finetune.fine_tuned(
            trained, finetune.PROTOCOLS[name], pooled.train, pooled.test, repeat
        )
        labelled = len(tuned.labelled)
        accuracies.append(int((tuned.predictions == pooled.truth).sum()) / len(pooled.truth))
    return {
        "labels": labelled,
        "accuracies": accuracies,
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies) if repeats > 1 else None,
    }
