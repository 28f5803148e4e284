"""Sums over the training images from which the server solves a closed form."""

from client.statistics import measure
from client.statistics.clusters import local_clusters
from client.tasks.task import Task
from common.protocol.messages import Reply


def patches(task: Task) -> Reply:
    """Moments of the patches that one layer of the encoder sees."""
    asked, device = task.instruction.asked, task.bench.device
    gram = task.in_training_images(measure.patch_moments, asked, device)
    return task.reply(moments={"gram": gram})


def moments(task: Task) -> Reply:
    """Moments of embeddings and of the differences between two views' embeddings."""
    gram, within = task.in_training_images(measure.view_moments, task.generator("moments"))
    return task.reply(moments={"gram": gram, "within": within})


def landmarks(task: Task) -> Reply:
    """Centroids of many small clusters of the site's own."""
    asked, device = task.instruction.asked, task.bench.device
    points = task.in_training_images(measure.solving_points, asked, device)
    k = task.bench.objective.landmarks_of(len(points))
    with task.phase("cluster"):
        found = local_clusters(points, k, task.min_count, task.generator("landmarks"))
    return task.reply(centroids=found.centroids if len(found.centroids.counts) else None)


def affinity(task: Task) -> Reply:
    """Products of two views' weights over all sites' landmarks."""
    found = task.in_training_images(
        measure.view_affinity, task.min_count, task.generator("affinity")
    )
    return task.reply(moments={"affinity": found})
