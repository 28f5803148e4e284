"""What a reply must be before it may touch the aggregate.

`read_reply` turns a Flower message into a `Reply` or raises `Refused` with one line that says why;
the round goes on with the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from common.messages import Instruction, MessageError, Reply


class Refused(Exception):
    """A reply that is not used, and why."""


@dataclass(frozen=True)
class Expected:
    """What a reply must fit: the numbers in each group, the width of the embeddings, the number of
    images that the site announced, the number of centroids that were sent to it."""

    sizes: Mapping[str, int]
    width: int
    images: int
    centroids: int = 0


MOMENTS: dict[str, tuple[str, ...]] = {
    "assess": ("gram", "cross"),
    "moments": ("gram", "within"),
    "lloyd": ("sums",),
}
"""The moments that a kind of message is answered with: exactly these."""


def read_reply(message: Message, site: str, asked: Instruction, expected: Expected) -> Reply:
    """The reply of `site` to `asked`, checked in every part; `Refused` says what does not fit."""
    if message.has_error():
        raise Refused(message.error.reason or f"error {message.error.code}")
    try:
        reply = Reply.from_record(message.content)
    except MessageError as error:
        raise Refused(str(error)) from None
    if reply.site != site:
        raise Refused(f"it calls itself {reply.site!r}")
    if (reply.kind, reply.round) != (asked.kind, asked.round):
        raise Refused(
            f"it answers {reply.kind} of round {reply.round}, not {asked.kind} of {asked.round}"
        )
    if reply.examples <= 0:
        raise Refused("it trained on zero examples")
    if reply.examples > expected.images:
        raise Refused(f"{reply.examples} examples: it announced {expected.images}")
    _check_tables(reply, asked, expected)
    _check_sums(reply, expected, len(asked.classes))
    if asked.kind == "lloyd":
        _check_step(reply, expected, asked.plan.clusters)
    if asked.kind in ("train", "prepare"):
        _check_groups(reply, asked.layout, expected.sizes)
    return reply


def _check_groups(reply: Reply, layout: str, sizes: Mapping[str, int]) -> None:
    if reply.layout != layout:
        raise Refused(f"its model has layout {reply.layout or 'none'}, not {layout}")
    for name, size in sizes.items():
        if name not in reply.groups:
            raise Refused(f"groups.{name}: missing")
        if reply.groups[name].shape != (size,):
            raise Refused(f"groups.{name}: {len(reply.groups[name])} numbers instead of {size}")
    for name in reply.groups.keys() - sizes.keys():
        raise Refused(f"groups.{name}: not asked for")


def _check_sums(reply: Reply, expected: Expected, classes: int) -> None:
    """Sums over at most `images` embeddings of unit length."""
    width = expected.width
    shapes = {"sum": (width,), "squares": (width,)}
    for name, vector in reply.vectors.items():
        if vector.shape != shapes.get(name):
            raise Refused(f"vectors.{name}: shape {vector.shape} instead of {shapes.get(name)}")
        _check_bound(f"vectors.{name}", vector, expected.images)
    needed = MOMENTS.get(reply.kind, ())
    for name in needed:
        if name not in reply.moments:
            raise Refused(f"moments.{name}: missing")
    moment_shapes = {
        "gram": ((width + 1, width + 1),),
        "cross": ((width + 1, classes), (width + 1, 0)),
        "within": ((width, width),),
        "sums": ((expected.centroids, width),),
    }
    for name, moment in reply.moments.items():
        if name not in needed:
            raise Refused(f"moments.{name}: not asked for")
        if moment.shape not in moment_shapes[name]:
            raise Refused(f"moments.{name}: {moment.shape} instead of {moment_shapes[name][0]}")
        # Two points of the unit sphere differ by at most 2, so the square of that by 4.
        _check_bound(f"moments.{name}", moment, expected.images * (4 if name == "within" else 1))


def _check_step(reply: Reply, expected: Expected, clusters: int) -> None:
    """Counts beside the sums, and each set's inertia: at most 2, opposite, for each image."""
    if "lloyd" not in reply.tables:
        raise Refused("tables.lloyd: missing")
    for number in range(expected.centroids // clusters):
        name = f"inertia.{number}"
        if name not in reply.sums:
            raise Refused(f"sums.{name}: missing")
        if not -0.001 <= reply.sums[name] / expected.images <= 2.001:  # but for rounding
            raise Refused(f"sums.{name}: no inertia of {expected.images} images")


def _check_bound(name: str, values: NDArray[np.float64], images: int) -> None:
    if values.size and np.abs(values).max() > images * 1.001:  # unit length, but for rounding
        raise Refused(f"{name}: larger than a sum over {images} images can be")


def _check_tables(reply: Reply, asked: Instruction, expected: Expected) -> None:
    columns = {1, max(len(asked.classes), 1)}
    clusters = asked.plan.clusters
    own = 0 if reply.centroids is None else len(reply.centroids.counts)
    rows = {"centroids": clusters, "head": clusters, "local": own, "lloyd": expected.centroids}
    for name, table in reply.tables.items():
        if name not in rows:
            raise Refused(f"tables.{name}: not asked for")
        if table.shape[1] not in columns:
            raise Refused(f"tables.{name}: {table.shape[1]} classes instead of {max(columns)}")
        if len(table) != rows[name]:
            raise Refused(f"tables.{name}: {len(table)} rows instead of {rows[name]}")
        sets = len(table) // clusters if name == "lloyd" else 1
        if table.sum() > expected.images * sets:
            raise Refused(f"tables.{name}: {table.sum()} images: it announced {expected.images}")
    if reply.centroids is not None:
        if reply.centroids.points.shape != (own, expected.width) or own > clusters:
            raise Refused(
                f"centroids: {reply.centroids.points.shape} instead of at most "
                f"{(clusters, expected.width)}"
            )
        if "local" not in reply.tables:
            raise Refused("tables.local: missing")
