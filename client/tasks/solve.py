"""Sums over the training images from which the server solves a closed form."""

from typing import TypeVar

import torch
from torch import Tensor

from client.statistics import exact, solving
from client.statistics.clusters import local_clusters
from client.tasks.task import Task
from common.protocol.messages import Reply
from common.solvers.base import (
    Affinity,
    Landmarks,
    LandmarkSums,
    Moments,
    OfOutputs,
    Patches,
    Statistic,
    Trial,
    statistics_of,
)

Kind = TypeVar("Kind", bound=Statistic)


def patches(task: Task) -> Reply:
    """Moments of the patches that one layer of the encoder sees."""
    statistic, device = _asked(task, Patches), task.bench.device
    gram = task.in_training_images(solving.patch_moments, statistic, device)
    return task.reply(moments={"gram": gram})


def moments(task: Task) -> Reply:
    """Moments of embeddings and of the differences between two views' embeddings."""
    statistic, generator = _asked(task, Moments), task.generator("moments")
    if task.keeps_features:
        with task.phase("embed"):
            width, device = statistic.width, task.bench.device
            gram, within = task.features().summed(lambda p: exact.view_moments(p, width, device))
        return task.reply(moments={"gram": gram, "within": within})
    gram, within = task.in_training_images(solving.view_moments, statistic, generator)
    return task.reply(moments={"gram": gram, "within": within})


def landmarks(task: Task) -> Reply:
    """Centroids of many small clusters of the site's own."""
    statistic, device = _asked(task, Landmarks), task.bench.device
    if task.keeps_features:
        points = _of_features(task, statistic)
    else:
        points = task.in_training_images(solving.plain_points, statistic, device)
    k = statistic.at_most(len(points))
    with task.phase("cluster"):
        found = local_clusters(points, k, task.min_count, task.generator("landmarks"))
    return task.reply(centroids=found.centroids if len(found.centroids.counts) else None)


def landmark_sums(task: Task) -> Reply:
    """Sums and numbers of the images nearest to each of the centres that came."""
    statistic = _asked(task, LandmarkSums)
    points = task.remembered(task.projected, lambda: _of_features(task, statistic))
    with task.phase("cluster"):
        sums, counts = exact.sums_by_centre(points, task.centroids(), task.min_count)
    return task.reply(moments={"sums": sums}, tables={"lloyd": counts[:, None]})


def trial(task: Task) -> Reply:
    """Two views of each image, by which nothing is solved, in the clusters of several ways."""
    statistic, scores = _asked(task, Trial), task.centroids()
    with task.phase("embed"), torch.no_grad():
        views = task.features().other_views()
        pairs = ((statistic.points(a), statistic.points(b)) for a, b in views)
        found = solving.agreements(pairs, scores, task.plan.clusters)
    return task.reply(tables={"views": found})


def affinity(task: Task) -> Reply:
    """Products of two views' weights over all sites' landmarks."""
    task.projected.forget()
    statistic, generator = _asked(task, Affinity), task.generator("affinity")
    if task.keeps_features:
        with task.phase("embed"), torch.no_grad():
            views = task.features().views()
            pairs = ((statistic.points(a), statistic.points(b)) for a, b in views)
            found = solving.affinity_of(pairs, statistic.width, task.min_count, task.bench.device)
    else:
        bound = task.min_count
        found = task.in_training_images(solving.view_affinity, statistic, bound, generator)
    return task.reply(moments={"affinity": found})


def _of_features(task: Task, statistic: OfOutputs) -> Tensor:
    """A statistic's x (N, d) of the images without augmentation, by what is kept of them."""
    with task.phase("embed"), torch.no_grad():
        return torch.cat([statistic.points(h) for h in task.features().plain()])


def _asked(task: Task, kind: type[Kind]) -> Kind:
    """The statistic of the stage's solver that the message asks for."""
    statistic = statistics_of(task.bench.model)[task.instruction.asked]
    assert isinstance(statistic, kind)
    return statistic
