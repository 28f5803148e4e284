"""`covey evaluate`: a finished run's encoder on pooled data, for who holds the data.

The same definitions as in the federation (`client/measure.py`, `common/metrics.py`), but with all
images in one place: k-means over the union, kNN and linear probe fitted on the training images and
scored on the data set's own test split, which no site has seen. Without one (`digits`) a seeded
fifth is held out of the fit; the sites have trained on those images, without their labels.
"""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from client import measure
from common import metrics
from common.data import ImageData, load, load_test
from common.errors import UserError
from common.kmeans import kmeans
from common.seeds import generator
from deploy.trained import Trained, load_trained
from server.measurements import RIDGE

HELD_OUT = 0.2  # of a data set without a test split of its own


def evaluate_run(folder: Path, dataset: str, console: Console) -> dict[str, Any]:
    """Print and return the figures of the run in `folder` on `dataset` (default: the run's)."""
    trained = load_trained(folder)
    plan = trained.plan
    spec = dataset or plan.dataset
    data = load(spec, images=0 if dataset else plan.images, seed=plan.seed, side=trained.side)
    if data.labels is None:
        raise UserError(f"{spec} has no labels to evaluate with")
    test = load_test(spec, side=trained.side)
    if test is None:
        data, test = _hold_out(data, plan.seed)
    h, labels = trained.embed(data), _labels(data, trained)
    h_test, test_labels = trained.embed(test), _labels(test, trained)
    clusters = plan.clusters or len(data.classes)
    found = kmeans(
        h, clusters, spherical=True, generator=generator(trained.device, plan.seed, "evaluate")
    )
    classes = len(data.classes)
    moments = measure.moments(h, labels, classes, min_count=1)
    probe = metrics.solve_probe(moments["gram"], moments["cross"], RIDGE).astype("float32")
    figures: dict[str, Any] = {
        "run": folder.name,
        "dataset": spec,
        "images": len(h),
        "held_out": len(h_test),
        "kmeans": metrics.clustering_scores(
            measure.count_table(found.labels, labels, clusters, classes)
        ),
        "knn": measure.knn_correct(h, labels, h_test, test_labels) / len(h_test),
        "linear": measure.probe_correct(h_test, test_labels, probe) / len(h_test),
    }
    if trained.centroids is not None:
        nearest = measure.nearest(h, trained.centroids)
        table = measure.count_table(nearest, labels, len(trained.centroids), classes)
        figures["centroids"] = metrics.clustering_scores(table)
    _show(figures, console)
    return figures


def _hold_out(data: ImageData, seed: int) -> tuple[ImageData, ImageData]:
    order = torch.randperm(len(data.images), generator=generator("cpu", seed, "hold-out")).numpy()
    held = round(len(order) * HELD_OUT)
    return data.subset(order[held:]), data.subset(order[:held])


def _labels(data: ImageData, trained: Trained) -> Tensor:
    return torch.from_numpy(data.labels).to(trained.device)


def _show(figures: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{figures['run']} on {figures['dataset']}", title_style="bold")
    for head in ("what", "ACC", "NMI", "ARI"):
        table.add_column(head, justify="left" if head == "what" else "right")
    for name, said in (("centroids", "the federation's centroids"), ("kmeans", "k-means, pooled")):
        if name in figures:
            scores = figures[name]
            table.add_row(said, *(f"{scores[key]:.3f}" for key in ("acc", "nmi", "ari")))
    table.add_row(f"kNN on {figures['held_out']} held-out images", f"{figures['knn']:.3f}", "", "")
    table.add_row("linear probe on the same", f"{figures['linear']:.3f}", "", "")
    console.print(table)
