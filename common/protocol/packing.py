"""Numbers in fewer bits: whole numbers, and one exponent for each block of them.

    x ≈ m · 2^e,   m a whole number of 8 or 16 bits, e one for every `BLOCK` numbers in a row,
the least with which the block's largest fits. Rounded up or down at random, in proportion to what
is nearer, so that the expectation is x itself and errors of sites and steps average out; to the
nearest, all that is small beside its block's largest would be lost in every step. Powers of two as
scales keep what is unpacked exact in float32, and its sums exact in fixed point. Imports no torch.

Source: stochastic rounding: Gupta et al., "Deep Learning with Limited Numerical Precision", ICML
2015, section 3.1; blocks that share an exponent: Wilkinson, 1963.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from common.protocol import records
from common.protocol.records import MessageError

BLOCK = 64
FORMS: dict[str, type] = {"int16": np.int16, "int8": np.int8}
LEAST, MOST = -120, 16  # of an exponent: what is below 2^LEAST is 0, what may be sent is below 2^32


@dataclass(frozen=True)
class Packed:
    """`mantissas` (N,) int8 or int16, `exponents` (N / BLOCK, rounded up) int8."""

    mantissas: NDArray[Any]
    exponents: NDArray[np.int8]


def pack(values: NDArray[np.float32], form: str, rng: np.random.Generator) -> Packed:
    """`values` (N,), finite and below 2^12, in the `form`; `rng` draws the rounding."""
    blocks = _blocks(values)
    most = np.iinfo(FORMS[form]).max
    _, exponents = np.frexp(np.abs(blocks).max(axis=1) / most)
    exponents = exponents.clip(LEAST, MOST)
    scaled = np.ldexp(blocks, -exponents[:, None])
    rounded = np.floor(scaled + rng.random(scaled.shape, np.float32)).clip(-most, most)
    mantissas = rounded.ravel()[: len(values)].astype(FORMS[form])
    return Packed(mantissas, exponents.astype(np.int8))


def unpack(packed: Packed) -> NDArray[np.float32]:
    """The numbers (N,) of what `check` lets pass."""
    blocks = _blocks(packed.mantissas.astype(np.float32))
    whole: NDArray[np.float32] = np.ldexp(blocks, packed.exponents.astype(np.int32)[:, None])
    return whole.ravel()[: len(packed.mantissas)]


def check(packed: Packed) -> None:
    """`ValueError` where mantissas and exponents do not fit."""
    blocks = -(-len(packed.mantissas) // BLOCK)
    if len(packed.exponents) != blocks:
        raise ValueError(f"{len(packed.exponents)} exponents for {blocks} blocks of {BLOCK}")
    if blocks and not (packed.exponents.min() >= LEAST and packed.exponents.max() <= MOST):
        raise ValueError(f"an exponent that is not within {LEAST} to {MOST}")


def put_packed(record: RecordDict, packed: Mapping[str, Packed]) -> None:
    """Write arrays into `record`: mantissas under their form, exponents."""
    for form, kind in FORMS.items():
        chosen = {n: each.mantissas for n, each in packed.items() if each.mantissas.dtype == kind}
        records.put_arrays(record, form, chosen)
    records.put_arrays(record, "exponents", {n: each.exponents for n, each in packed.items()})


def read_packed(record: RecordDict) -> dict[str, Packed]:
    """The packed arrays of a record; `MessageError` says what does not fit."""
    exponents = records.arrays(record, "exponents", np.int8, 1)
    found: dict[str, Packed] = {}
    for form, kind in FORMS.items():
        for name, mantissas in records.arrays(record, form, kind, 1).items():
            if name not in exponents:
                raise MessageError(f"{form}.{name}: twice, or without exponents")
            found[name] = Packed(mantissas, exponents.pop(name))
            try:
                check(found[name])
            except ValueError as error:
                raise MessageError(f"{form}.{name}: {error}") from None
    if exponents:
        raise MessageError("exponents: without numbers")
    return found


def _blocks(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) as (N / BLOCK, BLOCK), with zeros at its end."""
    rows = -(-len(values) // BLOCK)
    blocks = np.zeros((rows, BLOCK), np.float32)
    blocks.ravel()[: len(values)] = values
    return blocks
