"""The last look at an answer before it leaves the site.

Only what its exchange declares may leave (`common/protocol/exchanges.py`), within the declared
bounds, and nothing of fewer images than the site's own bound where the declaration says so. It is
the one place that sees every sum of every exchange at a site: masks and noise belong here.
"""

import numpy as np
from numpy.typing import NDArray

from client.tasks.task import Task
from common.protocol.checks import check_reply
from common.protocol.declaration import Behind, Brings, Sizes
from common.protocol.messages import Instruction, Reply
from common.protocol.records import MessageError
from common.solvers.base import Landmarks, statistics_of, width_of


def check_leaving(reply: Reply, task: Task) -> None:
    """`MessageError` where `reply` is not what was asked for, or says something of fewer than
    `task.min_count` images."""
    asked = task.instruction
    exchange = asked.exchange
    if (reply.kind, reply.round) != (asked.kind, asked.round):
        raise MessageError(f"{reply.kind} of round {reply.round} was not asked for")
    brought = reply.groups or reply.packed
    if brought and exchange.brings is Brings.NOTHING:
        raise MessageError("groups: not asked for")
    if exchange.of_batch and brought and reply.examples < task.min_count:
        raise MessageError(
            f"groups: {reply.examples} images, and none of fewer than {task.min_count} may leave"
        )
    images = len(task.data.images)
    check_reply(reply, exchange, _sizes(asked, task), images, properties=False)
    for each in exchange.sums_in("tables").values():
        if each.behind is Behind.MIN_COUNT and each.name in reply.tables:
            _check_counts(f"tables.{each.name}", reply.tables[each.name], task.min_count)
    if reply.centroids is not None:
        _check_counts("counts", reply.centroids.counts, task.min_count)


def _sizes(asked: Instruction, task: Task) -> Sizes:
    model, images = task.bench.model, len(task.data.images)
    statistic = statistics_of(model).get(asked.asked)
    return Sizes(
        width=width_of(model, asked.asked, task.stage.embedding),
        clusters=asked.clusters,
        several=len(asked.sets),
        classes=len(asked.classes),
        sent=0 if asked.centroids is None else len(asked.centroids.counts),
        landmarks=statistic.at_most(images) if isinstance(statistic, Landmarks) else 0,
        epochs=task.stage.passes(images),
    )


def _check_counts(where: str, counts: NDArray[np.int64], least: int) -> None:
    few = counts[(counts > 0) & (counts < least)]
    if few.size:
        raise MessageError(f"{where}: {few.min()} images, and none of fewer than {least} may leave")
