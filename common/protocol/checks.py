"""Whether a reply is what its exchange declares: every part there, of its shape, within its bounds.

Both sides ask it: a site before an answer leaves, with the sizes of its own model, and the server
before an answer may touch a sum, with the sizes of its own plan and never with what a site claims.
Whatever passes can be added up: nothing that comes after overflows, divides by zero, misses a part
or keeps more than was asked for. `MessageError` names the part that does not fit.
"""

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.protocol.declaration import Exchange, Number, Property, Sizes, Sum
from common.protocol.messages import Reply
from common.protocol.records import MessageError

LOSS = re.compile(r"[a-z][a-z0-9_-]{0,39}")  # what an objective may call one of its losses
PHASE = re.compile(r"[a-z]{1,20}")
MOST_NAMES = 32  # of losses, of phases
LONGEST_PHASE = 1e9  # seconds
SLACK = 0.001  # rounding of float32, relative to the largest that a number can be
ROUGHNESS = 0.02  # rounding of products in bfloat16, relative to the largest they can be


def check_reply(
    reply: Reply, exchange: Exchange, sizes: Sizes, images: int, properties: bool = True
) -> None:
    """`MessageError` unless `reply` has the sums, numbers, lists and seconds that `exchange`
    declares, for a site of so many `images`. The groups of parameters are not looked at.
    `properties`: whether what a sum of matrices must be is, too, which costs most: a site need not
    ask that of the sums that it has made itself."""
    own = 0 if reply.centroids is None else len(reply.centroids.counts)
    sizes = replace(sizes, own=own)
    for part in ("tables", "vectors", "moments"):
        declared = exchange.sums_in(part)
        given: dict[str, NDArray[Any]] = dict(getattr(reply, part))
        check_names(part, given, (), declared)
        for name, values in given.items():
            _check_sum(f"{part}.{name}", values, declared[name], sizes, images, properties)
        check_names(part, given, [n for n, each in declared.items() if not each.optional], declared)
    _check_list(reply, exchange, sizes, images)
    _check_numbers(reply, exchange, sizes, images)
    _check_seconds(reply)


def check_names(
    part: str, given: Collection[str], needed: Collection[str], allowed: Collection[str]
) -> None:
    """`MessageError` for a name that is not allowed, or one that is needed and not there."""
    for name in given:
        if name not in allowed:
            raise MessageError(f"{part}.{name}: not asked for")
    for name in needed:
        if name not in given:
            raise MessageError(f"{part}.{name}: missing")


def _check_sum(
    where: str,
    values: NDArray[Any],
    declared: Sum,
    sizes: Sizes,
    images: int,
    properties: bool,
) -> None:
    shapes = declared.shapes(sizes)
    if values.shape not in shapes:
        raise MessageError(f"{where}: shape {values.shape} instead of {shapes[0]}")
    if not values.size:
        return
    if declared.counts:  # not negative, or they would not have been read
        (repeats,) = declared.repeats.options(sizes)
        if total_of(values) > images * repeats:
            raise MessageError(f"{where}: {total_of(values)} images: it announced {images}")
        return
    most = images * declared.bound
    if np.abs(values).max() > most * (1 + SLACK):
        raise MessageError(f"{where}: larger than a sum over {images} images can be")
    for each in declared.properties if properties else ():
        _check_property(where, values, each, most)


def _check_property(
    where: str, values: NDArray[np.float64], declared: Property, most: float
) -> None:
    if declared is Property.SYMMETRIC and np.abs(values - values.T).max() > ROUGHNESS * most:
        raise MessageError(f"{where}: not symmetric")
    if declared is Property.SQUARES and values.diagonal().min() < 0:
        raise MessageError(f"{where}: a sum of squares is negative")
    if declared is Property.NON_NEGATIVE and values.min() < 0:
        raise MessageError(f"{where}: weights are not negative")
    if declared is Property.DEFINITE:  # but for rounding: what is solved from it exists
        try:
            np.linalg.cholesky(values + ROUGHNESS * most * np.eye(len(values)))
        except np.linalg.LinAlgError:
            raise MessageError(f"{where}: no sum of squares has negative eigenvalues") from None


def _check_list(reply: Reply, exchange: Exchange, sizes: Sizes, images: int) -> None:
    """Points of unit length, with the images behind them, and their table where there is one."""
    if reply.centroids is None:
        return
    if exchange.list is None:
        raise MessageError("centroids: not asked for")
    points, counts = reply.centroids.points, reply.centroids.counts
    (most,) = exchange.list.most.options(sizes)
    if points.shape != (sizes.own, sizes.width) or sizes.own > most:
        wanted = (most, sizes.width)
        raise MessageError(f"centroids: {points.shape} instead of at most {wanted}")
    lengths = np.linalg.norm(points.astype(np.float64), axis=1)
    if (np.abs(lengths - 1) > 0.01).any():
        raise MessageError("centroids: not of unit length")
    if total_of(counts) > images:
        raise MessageError(f"counts: {total_of(counts)} images: it announced {images}")
    if "local" in exchange.sums_in("tables") and "local" not in reply.tables:
        raise MessageError("tables.local: missing")


def _check_numbers(reply: Reply, exchange: Exchange, sizes: Sizes, images: int) -> None:
    declared = {each.name: each for each in exchange.numbers_of(sizes)}
    losses = declared.pop("loss.*", None)
    named = [n for n in reply.sums if losses and n.startswith("loss.") and LOSS.fullmatch(n[5:])]
    needed = [name for name, each in declared.items() if each.needed]
    check_names("sums", reply.sums, needed, (*declared, *named))
    if losses and (
        len(named) > MOST_NAMES or any(abs(reply.sums[name]) > losses.high for name in named)
    ):
        raise MessageError("sums: more losses than there are, or larger ones")
    for name in declared.keys() & reply.sums.keys():
        _check_number(reply, declared[name], sizes, images)


def _check_number(reply: Reply, declared: Number, sizes: Sizes, images: int) -> None:
    name, value = declared.name, reply.sums[declared.name]
    (times,) = declared.times.options(sizes)
    most = images * times
    low, high = most * (declared.low - SLACK), most * (declared.high + SLACK)
    whole = value >= 0 and not value % 1
    if not low <= value <= high or (declared.counts and not whole):
        raise MessageError(f"sums.{name}: {value:g}, of {images} images")
    if declared.needed and declared.counts and value < 1:
        raise MessageError(f"sums.{name}: none")
    if declared.part_of and value > reply.sums.get(declared.part_of, 0.0):
        raise MessageError(f"sums.{declared.part_of}: fewer than those that are correct")


def _check_seconds(reply: Reply) -> None:
    if len(reply.seconds) > MOST_NAMES:
        raise MessageError(f"seconds: {len(reply.seconds)} phases")
    for name, value in reply.seconds.items():
        if not PHASE.fullmatch(name) or not 0 <= value <= LONGEST_PHASE:
            raise MessageError(f"seconds.{name}: no time of a phase")


def total_of(counts: NDArray[np.int64]) -> int:
    """Σ of counts that are not negative; an int64 would wrap around at what a site may send."""
    return int(counts.sum(dtype=np.float64)) if counts.size else 0
