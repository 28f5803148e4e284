"""The figures of a finished run of `methods.py`: a row of its CSV."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from client.dataset import batches
from client.statistics import measure
from common import metrics
from common.clustering.kmeans import kmeans
from common.config.options import Plan
from common.data import ImageData, load, load_test
from common.data.images import draw_order
from common.data.planned import planned_data
from common.record.reader import RunRecord, read_run
from common.utils.seeds import generator
from deploy.evaluation.pooled import by_centroids
from deploy.evaluation.trained import Trained, load_trained
from server.measurements import RIDGE

RESTARTS = 10  # of k-means on the pooled embeddings
HELD_OUT = 0.2  # of a data set without a test split whose images are all in the run

Row = dict[str, Any]


def figures(plan: Plan, folder: Path, held_out: int) -> Row:
    """The row of a finished run, but for its entry and its commit."""
    record, trained = read_run(folder), load_trained(folder)
    data = planned_data(plan)
    pooled = pooled_figures(plan, trained, data, held_out)
    last = record.stages[-1]
    # Alone, a site's own scores are on its own images only: it is judged on everybody's.
    scores = pooled if plan.alone else last.figures
    events = [*record.rounds, *record.stages]
    row = {
        "dataset": plan.dataset,
        "images": len(data.images),
        "partition": plan.partition,
        "sites": plan.sites,
        "participation": plan.participation,
        "seed": plan.seed,
        "rounds": plan.rounds,
        "local_steps": local_steps(record, plan),
        "encoder": plan.encoder,
        **{name: scores[name] for name in ("acc", "nmi", "ari", "purity", "std")},
        **{name: pooled[name] for name in ("knn", "linear")},
        "pooled_acc": pooled["acc"],
        "pooled_nmi": pooled["nmi"],
        **unseen_figures(plan, trained),
        "bytes": sum(e.bytes_down + e.bytes_up for e in events),
        # Of a phase the mean over the sites is noted.
        "seconds": sum(e.seconds.get("train", 0) * len(e.answered) for e in record.rounds),
    }
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}


def local_steps(record: RunRecord, plan: Plan) -> int:
    """Optimiser steps in the whole run, mean over the sites that take part."""
    sizes = {name: site.examples for name, site in record.run.sites.items()}
    steps = 0
    for event in record.rounds:
        stage = plan.stages[event.stage]
        for site in event.answered:
            n = sizes[site]
            kept = n - min(max(1, round(n * plan.evaluation_share)), n - 2)  # as `Trainer.split`
            steps += stage.local_epochs * batches(kept, stage.batch_size)
    return round(steps / len(sizes))


def pooled_figures(
    plan: Plan, trained: Trained, data: ImageData, held_out: int
) -> dict[str, float]:
    """With all images in one place: scores of k-means on the last stage's embeddings and their
    spread; kNN and linear probe of encoder outputs, fitted on the run's images and scored on
    `held_out` others."""
    trained.estimate_statistics(data)
    fitted, test = fitted_and_held_out(plan, data, held_out)
    h, labels = trained.embed(fitted), _labels(fitted, trained)
    h_test, test_labels = trained.embed(test), _labels(test, trained)
    classes = len(data.classes)
    clusters = plan.clusters or classes
    space = plan.stages[-1].embedding
    points, truth = trained.embed(data, space), _labels(data, trained)
    chance = generator(trained.device, plan.seed, "pooled")
    found = kmeans(points, clusters, restarts=RESTARTS, spherical=True, generator=chance)
    table = measure.count_table(found.labels, truth, clusters, classes)
    moments = measure.moments(h, labels, classes, min_count=1)
    probe = metrics.solve_probe(moments["gram"], moments["cross"], RIDGE).astype("float32")
    std = points.double().std(dim=0, correction=0).cpu().numpy()
    return {
        **metrics.clustering_scores(table),
        "std": metrics.healthy_std(std),
        "knn": measure.knn_correct(h, labels, h_test, test_labels) / len(h_test),
        "linear": measure.probe_correct(h_test, test_labels, probe) / len(h_test),
    }


def fitted_and_held_out(plan: Plan, data: ImageData, held_out: int) -> tuple[ImageData, ImageData]:
    """The run's images, and `held_out` others drawn by seed: of the test split, else of the images
    that the run did not draw; where there are none of either, a fifth of the run's own, which no
    longer counts among the fitted ones (sites have trained on those, without labels)."""
    test = load_test(plan.dataset, side=plan.side)
    if test is not None:
        order = draw_order(len(test.images), 0, plan.seed, plan.dataset)
        return data, test.subset(order[:held_out])
    whole = load(plan.dataset, side=plan.side)
    order = draw_order(len(whole.images), plan.images, plan.seed, plan.dataset)
    if 0 < plan.images < len(order):
        return data, whole.subset(order[plan.images :][:held_out])
    held = round(len(order) * HELD_OUT)
    return whole.subset(order[held:]), whole.subset(order[:held][:held_out])


def unseen_figures(plan: Plan, trained: Trained) -> dict[str, float]:
    """ACC and NMI of the federation's centroids on all test images of the data set, which no site
    has; nan where there are none, and where the sites' centroids are of their own statistics."""
    test = load_test(plan.dataset, side=plan.side)
    if test is None or trained.centroids is None:
        return {"test_acc": math.nan, "test_nmi": math.nan}
    points = trained.embed(test, trained.space)
    scores = by_centroids(trained, points, _labels(test, trained), len(test.classes))
    return {"test_acc": scores["acc"], "test_nmi": scores["nmi"]}


def _labels(data: ImageData, trained: Trained) -> Tensor:
    return torch.from_numpy(data.labels).to(trained.device)
