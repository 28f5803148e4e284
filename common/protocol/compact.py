"""A symmetric sum in few bytes: half of it, in float32, without what is zero at its end.

A stage asks for it (`wire = "compact"`). Rounding to 24 bits is far below what a sum over images
varies by, but then sums over two spreads of the same images are no longer the same to the bit.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.protocol.declaration import Exchange, Property, Sizes
from common.protocol.records import MessageError

Half = NDArray[np.float32]


def compactable(exchange: Exchange) -> set[str]:
    """The sums of an exchange that are symmetric matrices, by name."""
    moments = exchange.sums_in("moments").items()
    return {name for name, each in moments if Property.SYMMETRIC in each.properties}


def halved(matrix: NDArray[np.float64]) -> Half:
    """The upper half of a symmetric `matrix` (d, d), row by row, up to its last that is not 0."""
    used = np.flatnonzero(matrix.any(axis=0) | matrix.any(axis=1))
    size = int(used[-1]) + 1 if len(used) else 0
    half: Half = matrix[:size, :size][np.triu_indices(size)].astype(np.float32)
    return half


def expanded(
    halves: Mapping[str, Half], exchange: Exchange, sizes: Sizes
) -> dict[str, NDArray[Any]]:
    """The matrices whose `halves` were sent, in the shapes that `exchange` declares; `MessageError`
    for one that was not asked for, or that is larger."""
    declared, found = exchange.sums_in("moments"), {}
    for name, half in halves.items():
        if name not in compactable(exchange):
            raise MessageError(f"halves.{name}: not asked for")
        width, size = declared[name].shapes(sizes)[0][0], (math.isqrt(8 * len(half) + 1) - 1) // 2
        if size * (size + 1) // 2 != len(half) or size > width:
            raise MessageError(f"halves.{name}: {len(half)} numbers are no half of {width}×{width}")
        upper = np.zeros((width, width))
        upper[:size, :size][np.triu_indices(size)] = half
        found[name] = upper + np.triu(upper, 1).T
    return found
