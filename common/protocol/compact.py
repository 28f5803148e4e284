"""A symmetric sum in fewer bytes: half of it, without what is zero at its end.

A stage asks for it. With `wire = "half"` nothing is lost. With `wire = "compact"` the half is in
float32: rounding to 24 bits is far below what a sum over images varies by, but then sums over two
spreads of the same images are no longer the same to the bit.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from common.protocol.declaration import Exchange, Property, Sizes
from common.protocol.records import MessageError, arrays, put_arrays

Half = NDArray[np.float32] | NDArray[np.float64]
IN: Mapping[str, type[np.floating[Any]]] = {"half": np.float64, "compact": np.float32}
"""What the halves of a stage's `wire` are in."""


def compactable(exchange: Exchange) -> set[str]:
    """The sums of an exchange that are symmetric matrices, by name."""
    moments = exchange.sums_in("moments").items()
    return {name for name, each in moments if Property.SYMMETRIC in each.properties}


def halved(matrix: NDArray[np.float64], wire: str) -> Half:
    """The upper half of a symmetric `matrix` (d, d), row by row, up to its last that is not 0."""
    used = np.flatnonzero(matrix.any(axis=0) | matrix.any(axis=1))
    size = int(used[-1]) + 1 if len(used) else 0
    rows = [matrix[row, row:size] for row in range(size)]
    half: Half = np.concatenate([np.zeros(0), *rows]).astype(IN[wire])
    return half


def put_halves(record: RecordDict, halves: Mapping[str, Half]) -> None:
    """Put `halves` into the record, those of each kind of number by themselves."""
    for wire, kind in IN.items():
        put_arrays(record, f"halves-{wire}", {k: v for k, v in halves.items() if v.dtype == kind})


def read_halves(record: RecordDict) -> dict[str, Half]:
    """The halves in the record; `MessageError` for what is none."""
    found: dict[str, Half] = {}
    for wire, kind in IN.items():
        found |= arrays(record, f"halves-{wire}", kind, 1)
    return found


def expanded(
    halves: Mapping[str, Half], exchange: Exchange, sizes: Sizes, wire: str
) -> dict[str, NDArray[Any]]:
    """The matrices whose `halves` were sent, in the shapes that `exchange` declares; `MessageError`
    for one that was not asked for, not in the stage's `wire`, or larger."""
    declared, found = exchange.sums_in("moments"), {}
    for name, half in halves.items():
        if name not in compactable(exchange):
            raise MessageError(f"halves.{name}: not asked for")
        if wire not in IN or half.dtype != IN[wire]:
            raise MessageError(f"halves.{name}: {half.dtype} does not fit wire = {wire}")
        width, size = declared[name].shapes(sizes)[0][0], (math.isqrt(8 * len(half) + 1) - 1) // 2
        if size * (size + 1) // 2 != len(half) or size > width:
            raise MessageError(f"halves.{name}: {len(half)} numbers are no half of {width}×{width}")
        found[name] = whole = np.zeros((width, width))
        start = 0
        for row in range(size):
            end = start + size - row
            whole[row, row:size] = whole[row:size, row] = half[start:end]
            start = end
    return found
