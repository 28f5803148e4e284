"""A cluster inside a cluster: one of a finished run's is taken apart, from sums.

k-means over the images that are nearest to its centroid alone: Lloyd's steps from several starts
side by side, of which the one with the least inertia is kept. The starts are k-means of the centres
of small clusters that sites send (`assess`), as far as those lie in the cluster; where they are too
few, the centroid moved in random directions. The other clusters stay as they are, and keep their
numbers; the largest part keeps the cluster's, the others come after the last.
"""

import numpy as np

from common.clustering.centroids import Centroids, unit
from common.protocol.messages import Counts, Floats
from common.record.follow_up import FollowUp
from common.record.later import SplitEvent
from common.utils.errors import UserError
from server.clustering.lloyd import Clustering
from server.clustering.merging import nearest
from server.clustering.rules import merge_centroids
from server.conversation.asking import Question
from server.conversation.inquiry import Inquiry
from server.questions.asked import Asked
from server.questions.weighing import beyond_chance

STARTS = 16
STEPS = 20
SMALL = 4  # clusters of a site's own for each of the run's
MOVED = 0.3  # of the centroid's length, where there is nothing better to start from


def split(asked: Asked) -> None:
    """Take the cluster apart, score what there is then, and make that the run's clusters.
    `UserError` where it has too few images."""
    what, frame = asked.follow_up, asked.centroids
    check_split(what, frame.counts, asked.strategy.plan.min_count)
    assessed = asked.assess(SMALL * len(frame.counts))
    starts = _starts(asked, frame, assessed)
    found, _ = asked.refine([frame, *starts], STEPS, within=what.cluster)
    parts, inertia = _best(found, len(frame.counts), what.parts)
    if parts.counts.min() <= 0:
        raise UserError(
            f"cluster {what.cluster} does not come apart into {what.parts}: sites tell of no fewer "
            f"than min-count images ({asked.strategy.plan.min_count} or their own bound)"
        )
    asked.strategy.folder.log(
        SplitEvent(
            round=asked.state.round,
            cluster=what.cluster,
            parts=(what.cluster, *range(len(frame.counts), len(frame.counts) + what.parts - 1)),
            sizes=tuple(int(n) for n in parts.counts),
            tighter=1 - inertia / found.inertia[0] if found.inertia[0] else 0.0,
            stability=_stability(asked, frame, parts),
            stage=asked.order.closed,
        )
    )
    points, counts = frame.points.copy(), frame.counts.copy()
    points[what.cluster], counts[what.cluster] = parts.points[0], parts.counts[0]
    whole = Centroids(
        np.concatenate([points, parts.points[1:]]), np.concatenate([counts, parts.counts[1:]])
    )
    asked.end_with(whole, f"split of {what.cluster}", assessed)


def check_split(what: FollowUp, counts: Counts, least: int) -> None:
    """`UserError` where there is no such cluster, or it has fewer than `least` images (the plan's
    min-count) for each part, by the images behind the run's centroids."""
    if what.cluster >= len(counts):
        raise UserError(f"there is no cluster {what.cluster}: the run has {len(counts)}")
    images = int(counts[what.cluster])
    if images < what.parts * least:
        raise UserError(
            f"cluster {what.cluster} has {images} images: too few for {what.parts} parts of "
            f"min-count {least}"
        )


def _starts(asked: Asked, frame: Centroids, assessed: Inquiry) -> list[Centroids]:
    """`STARTS` sets of centroids inside the cluster."""
    cluster, parts = asked.follow_up.cluster, asked.follow_up.parts
    inside = []
    for site, own in assessed.measured.centroids:
        rows = nearest(own.points, frame.points) == cluster
        if rows.any():
            inside.append((site, Centroids(own.points[rows], own.counts[rows])))
    enough = sum(len(own.counts) for _, own in inside) > parts
    found = []
    for number in range(STARTS):
        seed = asked.seed("start", number)
        if enough:
            found.append(merge_centroids(inside, None, parts, seed, restarts=1).centroids)
        else:
            found.append(_moved(frame.points[cluster], parts, seed))
    return found


def _moved(centroid: Floats, parts: int, seed: int) -> Centroids:
    away = np.random.default_rng(seed).normal(size=(parts, len(centroid)))
    away *= MOVED / np.linalg.norm(away, axis=1, keepdims=True)
    return Centroids(unit(centroid + away), np.ones(parts, np.int64))


def _best(found: Clustering, frame: int, parts: int) -> tuple[Centroids, float]:
    """The parts with the least inertia, the largest first, and that inertia."""
    inertia = found.inertia[1:]
    best = int(np.argmin(inertia))
    rows = slice(frame + best * parts, frame + (best + 1) * parts)
    points, counts = found.points[rows], np.rint(found.counts[rows]).astype(np.int64)
    order = np.argsort(-counts, kind="stable")
    return Centroids(points[order], counts[order]), float(inertia[best])


def _stability(asked: Asked, frame: Centroids, parts: Centroids) -> float:
    """How well two views of the cluster's images agree on the part, beyond chance."""
    both = Centroids(
        np.concatenate([frame.points, parts.points]), np.concatenate([frame.counts, parts.counts])
    )
    sizes = (len(frame.counts), len(parts.counts))
    cluster = asked.follow_up.cluster
    question = Question("weigh", asked.state.round, both, sets=sizes, within=cluster)
    weighed = asked.ask(question).measured.totals
    images, same = weighed.number("weighed") or 0.0, weighed.number("views.1") or 0.0
    return beyond_chance(same / images if images else 0.0, parts.counts, parts.counts)
