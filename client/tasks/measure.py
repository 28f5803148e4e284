"""Measuring a state without training it: its local clusters, its sums by centroid, its scores."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from client.embedding import Embedded
from client.statistics import measure
from client.statistics.clusters import nearest
from client.storage.assignments import write_assignments
from client.tasks.task import Task
from common.protocol.messages import ALL, Counts, Reply
from common.solvers.base import Solver


def look(task: Task, seen: Embedded) -> dict[str, Any]:
    """The parts of a reply about the site's own clusters, where k-means needs them: their centroids
    and table; the head's table, the spread of the embeddings."""
    k, model = task.instruction.clusters, task.bench.model
    own, tables = None, {}
    with task.phase("cluster"):
        if not (isinstance(model, Solver) and model.has_starts) or task.instruction.sets:
            clusters = measure.CLUSTERINGS[task.stage.centroids](
                seen.points, k, task.min_count, task.generator("clusters")
            )
            if found := len(clusters.centroids.counts):
                own = clusters.centroids
                tables["local"] = count_table(task, clusters.labels, found)
        if seen.head is not None and not task.instruction.sets:
            tables["head"] = count_table(task, seen.head, k)
    return {
        "centroids": own,
        "tables": tables,
        "vectors": measure.spread(seen.points),
    }


def assess(task: Task) -> Reply:
    """Local clusters of a stage's final state, the probe's moments, kNN."""
    seen = task.seen().plain
    found = look(task, seen)
    with task.phase("probe"):
        data, classes = task.data, len(task.instruction.classes)
        labels = None if data.labels is None else data.labels[data.train]
        moments = measure.moments(seen.points[data.train], labels, classes, task.min_count)
        sums = _count_knn(task, seen.points)
    return task.reply(sums, moments=moments, **found)


def score(task: Task) -> Reply:
    """Assign with the merged centroids, count where two views of an image go together and what the
    probe gets right, keep assignments."""
    centres, both = task.centroids(), task.seen()
    k, seen = len(centres), both.plain
    with task.phase("score"):
        by_centroid = nearest(seen.points, centres)
        tables = {"centroids": count_table(task, by_centroid, k)}
        if seen.head is not None and not task.instruction.sets:
            tables["head"] = count_table(task, seen.head, k)
        first, second = (_chosen(task, view, nearest(view.points, centres)) for view in both.views)
        tables["views"] = measure.count_table(first, second, k, k)
        sums = {"silhouette": measure.silhouette(seen.points, centres), **_count_probe(task, seen)}
    write_assignments(
        task.store.folder / "assignments.csv",
        task.data.names,
        _chosen(task, seen, by_centroid).tolist(),
    )
    return task.reply(sums, tables=tables)


def lloyd(task: Task) -> Reply:
    """One step of Lloyd's algorithm for each of the sets of centroids that were sent, over the
    images that are meant."""
    points, sets = task.seen().plain.points, task.sets()
    with task.phase("cluster"):
        points = points[meant(task, points, sets[0])]
        found = [measure.lloyd_sums(points, s, task.min_count) for s in sets]
    return task.reply(
        {f"inertia.{i}": step.inertia for i, step in enumerate(found)},
        moments={"sums": np.concatenate([step.sums for step in found])},
        tables={"lloyd": np.concatenate([step.counts for step in found])[:, None]},
    )


def weigh(task: Task) -> Reply:
    """Of each set of centroids: how far images are from the next cluster, how many have both views
    in one, and how many its twin, which is the set after it, puts into the cluster of the same
    number. Of the images that are meant."""
    seen, sets = task.seen(), task.sets()
    sums: dict[str, float] = {}
    with task.phase("cluster"):
        rows = meant(task, seen.plain.points, sets[0])
        plain, *views = (each.points[rows] for each in (seen.plain, *seen.views))
        labels = [nearest(plain, each) for each in sets]
        for number, (centres, own) in enumerate(zip(sets, labels, strict=True)):
            first, second = (nearest(view, centres) for view in views)
            twin = labels[(number + 1) % len(sets)]
            sums[f"silhouette.{number}"] = measure.silhouette(plain, centres)
            sums[f"views.{number}"] = int((first == second).sum())
            sums[f"twins.{number}"] = int((own == twin).sum())
    return task.reply({"weighed": len(plain), **sums})


def meant(task: Task, points: Tensor, frame: Tensor) -> Tensor:
    """Which (N,) of the images the message is about: all, or those of one cluster of `frame`, and
    none of these where they are too few to be told of."""
    if task.instruction.within == ALL:
        return torch.ones(len(points), dtype=torch.bool, device=points.device)
    found = nearest(points, frame) == task.instruction.within
    return found if int(found.sum()) >= task.min_count else torch.zeros_like(found)


def count_table(task: Task, clusters: Tensor, k: int) -> Counts:
    """Contingency counts (k, classes) of `clusters` (N,) of the site's images."""
    return measure.count_table(clusters, task.data.labels, k, len(task.instruction.classes))


def _chosen(task: Task, seen: Embedded, by_centroid: Tensor) -> Tensor:
    """The clusters (N,) that images are in, as the stage finds them."""
    by_head = task.stage.clusters_from == "head"
    return seen.head if by_head and seen.head is not None else by_centroid


def _count_knn(task: Task, points: Tensor) -> dict[str, float]:
    labels, train, held = task.data.labels, task.data.train, task.data.held
    if labels is None or not len(held):
        return {}
    correct = measure.knn_correct(points[train], labels[train], points[held], labels[held])
    return {"knn_correct": correct, "held": len(held)}


def _count_probe(task: Task, seen: Embedded) -> dict[str, float]:
    labels, held, probe = task.data.labels, task.data.held, task.instruction.probe
    if labels is None or probe is None:
        return {}
    correct = measure.probe_correct(seen.points[held], labels[held], probe)
    return {"probe_correct": correct, "held": len(held)}
