"""What a reply must be before it may touch the aggregate.

`read_reply` turns a Flower message into a `Reply` or raises `Refused` with one line that says why;
the round goes on with the others. Whatever passes here can be added up: nothing that comes after
overflows, divides by zero, misses a part or keeps more than was asked for.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from common.protocol.messages import Instruction, MessageError, Reply
from common.utils.errors import plain


class Refused(Exception):
    """A reply that is not used, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(plain(why))


@dataclass(frozen=True)
class Expected:
    """What a reply must fit: the numbers in each group, the width of the embeddings, the number of
    images that the site announced, the number of centroids that were sent to it, and the most that
    it may send (None: as many as there are clusters)."""

    sizes: Mapping[str, int]
    width: int
    images: int
    centroids: int = 0
    most: int | None = None


MOMENTS: dict[str, tuple[str, ...]] = {
    "assess": ("gram", "cross"),
    "patches": ("gram",),
    "moments": ("gram", "within"),
    "affinity": ("affinity",),
    "lloyd": ("sums",),
}
"""The moments that a kind of message is answered with: exactly these."""

VECTORS: dict[str, tuple[str, ...]] = {
    "train": ("sum", "squares"),
    "assess": ("sum", "squares"),
}
"""The vectors that a kind of message is answered with: exactly these."""

TABLES: dict[str, tuple[str, ...]] = {
    "train": ("local", "head"),
    "assess": ("local", "head"),
    "score": ("centroids", "head", "views"),
    "lloyd": ("lloyd",),
}
"""The tables that a kind of message may be answered with."""

SUMS: dict[str, tuple[str, ...]] = {
    "train": ("seen",),
    "assess": ("knn_correct", "held"),
    "score": ("silhouette", "probe_correct", "held"),
}
"""The sums that a kind of message may be answered with, beside `images`, a round's losses and a
step's inertias."""

LOSS = re.compile(r"loss\.[a-z][a-z0-9_-]{0,39}")
INERTIA = re.compile(r"inertia\.\d{1,4}")
PHASE = re.compile(r"[a-z]{1,20}")
MOST_NAMES = 32  # of losses, of phases
LARGEST_LOSS = 1e30  # of which any number of sites can be added up
LONGEST_PHASE = 1e9  # seconds
SLACK = 1.001  # rounding of float32
ROUGHNESS = 0.02  # rounding of products in bfloat16, relative to the largest they can be


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
    _check_centroids(reply, asked, expected)
    _check_vectors(reply, expected)
    _check_moments(reply, expected, len(asked.classes))
    _check_sums(reply, asked, expected)
    _check_seconds(reply)
    if asked.kind == "lloyd":
        _check_step(reply, expected, asked.plan.clusters)
    _check_groups(reply, asked, expected.sizes)
    return reply


def _check_groups(reply: Reply, asked: Instruction, sizes: Mapping[str, int]) -> None:
    brings = asked.kind in ("train", "prepare")
    if brings and reply.layout != asked.layout:
        raise Refused(f"its model has layout {reply.layout or 'none'}, not {asked.layout}")
    wanted = sizes if brings else {}
    _check_names("groups", reply.groups, wanted, wanted)
    for name, size in wanted.items():
        if reply.groups[name].shape != (size,):
            raise Refused(f"groups.{name}: {len(reply.groups[name])} numbers instead of {size}")


def _check_vectors(reply: Reply, expected: Expected) -> None:
    """Sums over at most `images` embeddings of unit length."""
    needed = VECTORS.get(reply.kind, ())
    _check_names("vectors", reply.vectors, needed, needed)
    for name, vector in reply.vectors.items():
        if vector.shape != (expected.width,):
            raise Refused(f"vectors.{name}: shape {vector.shape} instead of {(expected.width,)}")
        _check_bound(f"vectors.{name}", vector, expected.images)


def _check_moments(reply: Reply, expected: Expected, classes: int) -> None:
    """Sums over at most `images` embeddings of unit length."""
    width, needed = expected.width, MOMENTS.get(reply.kind, ())
    _check_names("moments", reply.moments, needed, needed)
    shapes = {
        "gram": ((width + 1, width + 1),),
        "cross": ((width + 1, classes), (width + 1, 0)),
        "within": ((width, width),),
        "affinity": ((width, width),),
        "sums": ((expected.centroids, width),),
    }
    for name, moment in reply.moments.items():
        if moment.shape not in shapes[name]:
            raise Refused(f"moments.{name}: {moment.shape} instead of {shapes[name][0]}")
        # Two points of the unit sphere differ by at most 2, so the square of that by 4.
        most = expected.images * (4 if name == "within" else 1)
        _check_bound(f"moments.{name}", moment, most)
        if name in ("gram", "within", "affinity"):
            _check_second_moment(f"moments.{name}", moment, most)
        if name == "affinity" and moment.min() < 0:
            raise Refused("moments.affinity: weights are not negative")
        if name == "within":
            _check_definite(f"moments.{name}", moment, most)


def _check_second_moment(name: str, moment: NDArray[np.float64], most: int) -> None:
    """Σ x xᵀ is symmetric, and no square on its diagonal is negative."""
    if np.abs(moment - moment.T).max() > ROUGHNESS * most:
        raise Refused(f"{name}: not symmetric")
    if moment.diagonal().min() < 0:
        raise Refused(f"{name}: a sum of squares is negative")


def _check_definite(name: str, moment: NDArray[np.float64], most: int) -> None:
    """Σ x xᵀ has no negative eigenvalue, but for rounding: what is solved from it exists."""
    try:
        np.linalg.cholesky(moment + ROUGHNESS * most * np.eye(len(moment)))
    except np.linalg.LinAlgError:
        raise Refused(f"{name}: no sum of squares has negative eigenvalues") from None


def _check_step(reply: Reply, expected: Expected, clusters: int) -> None:
    """Counts beside the sums, and each set's inertia: at most 2, opposite, for each image."""
    if "lloyd" not in reply.tables:
        raise Refused("tables.lloyd: missing")
    names = {f"inertia.{number}" for number in range(expected.centroids // clusters)}
    given = {name for name in reply.sums if INERTIA.fullmatch(name)}
    for name in sorted(names ^ given):
        raise Refused(f"sums.{name}: {'missing' if name in names else 'not asked for'}")
    for name in names:
        if not -0.001 <= reply.sums[name] / expected.images <= 2.001:  # but for rounding
            raise Refused(f"sums.{name}: no inertia of {expected.images} images")


def _check_sums(reply: Reply, asked: Instruction, expected: Expected) -> None:
    """Only sums that the kind has, none beyond what its images can add up to."""
    most = dict.fromkeys(("images", *SUMS.get(reply.kind, ())), expected.images)
    if "seen" in most:
        most["seen"] *= asked.plan.stages[asked.stage].local_epochs
    losses = [name for name in reply.sums if LOSS.fullmatch(name) and reply.kind == "train"]
    steps = [name for name in reply.sums if INERTIA.fullmatch(name) and reply.kind == "lloyd"]
    if len(losses) > MOST_NAMES or any(abs(reply.sums[name]) > LARGEST_LOSS for name in losses):
        raise Refused("sums: more losses than there are, or larger ones")
    _check_names("sums", reply.sums, (), (*most, *losses, *steps))
    for name in most.keys() & reply.sums.keys():
        value = reply.sums[name]
        count = name != "silhouette"
        if abs(value) > most[name] * SLACK or (count and (value < 0 or value % 1)):
            raise Refused(f"sums.{name}: {value:g}, of {expected.images} images")
    held = reply.sums.get("held", 0.0)
    if max(reply.sums.get(name, 0.0) for name in ("knn_correct", "probe_correct")) > held:
        raise Refused("sums.held: fewer than those that are correct")
    if reply.vectors and reply.sums.get("images", 0.0) < 1:
        raise Refused("sums.images: missing, or none")


def _check_seconds(reply: Reply) -> None:
    if len(reply.seconds) > MOST_NAMES:
        raise Refused(f"seconds: {len(reply.seconds)} phases")
    for name, value in reply.seconds.items():
        if not PHASE.fullmatch(name) or not 0 <= value <= LONGEST_PHASE:
            raise Refused(f"seconds.{name}: no time of a phase")


def _check_names(
    part: str, given: Mapping[str, object], needed: Collection[str], allowed: Collection[str]
) -> None:
    for name in given:
        if name not in allowed:
            raise Refused(f"{part}.{name}: not asked for")
    for name in needed:
        if name not in given:
            raise Refused(f"{part}.{name}: missing")


def _check_bound(name: str, values: NDArray[np.float64], images: int) -> None:
    if values.size and np.abs(values).max() > images * SLACK:  # unit length, but for rounding
        raise Refused(f"{name}: larger than a sum over {images} images can be")


def _check_tables(reply: Reply, asked: Instruction, expected: Expected) -> None:
    by_class, clusters = {1, max(len(asked.classes), 1)}, asked.plan.clusters
    own = 0 if reply.centroids is None else len(reply.centroids.counts)
    rows = {"local": own, "lloyd": expected.centroids}
    _check_names("tables", reply.tables, (), TABLES.get(reply.kind, ()))
    for name, table in reply.tables.items():
        columns, most = ({clusters}, "clusters") if name == "views" else (by_class, "classes")
        if table.shape[1] not in columns:
            raise Refused(f"tables.{name}: {table.shape[1]} {most} instead of {max(columns)}")
        if len(table) != rows.get(name, clusters):
            raise Refused(f"tables.{name}: {len(table)} rows instead of {rows.get(name, clusters)}")
        sets = len(table) // clusters if name == "lloyd" else 1
        total = _total(table)
        if total > expected.images * sets:
            raise Refused(f"tables.{name}: {total} images: it announced {expected.images}")


def _check_centroids(reply: Reply, asked: Instruction, expected: Expected) -> None:
    """At most K points of unit length, with the images behind them and, but of landmarks, their
    table."""
    if reply.centroids is None:
        return
    if reply.kind not in ("train", "assess", "landmarks"):
        raise Refused("centroids: not asked for")
    points, counts = reply.centroids.points, reply.centroids.counts
    own, most = len(counts), asked.plan.clusters if expected.most is None else expected.most
    if points.shape != (own, expected.width) or own > most:
        raise Refused(f"centroids: {points.shape} instead of at most {(most, expected.width)}")
    lengths = np.linalg.norm(points.astype(np.float64), axis=1)
    if (np.abs(lengths - 1) > 0.01).any():
        raise Refused("centroids: not of unit length")
    if _total(counts) > expected.images:
        raise Refused(f"counts: {_total(counts)} images: it announced {expected.images}")
    if reply.kind != "landmarks" and "local" not in reply.tables:
        raise Refused("tables.local: missing")


def _total(counts: NDArray[np.int64]) -> int:
    """Σ of counts that are not negative; an int64 would wrap around at what a site may send."""
    return int(counts.sum(dtype=np.float64)) if counts.size else 0
