"""Reading Flower's records without trusting them: each part is what it should be, or is refused.

Whoever sends a record chooses every byte of it. Nothing here is unpickled, evaluated or allocated
by what a record says of itself: an array's bytes must be there before an array is made of them.
Imports no torch.
"""

import io
import math
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict  # pylint: disable=E0611
from google.protobuf.message import DecodeError, EncodeError
from numpy.lib.format import header_data_from_array_1_0, write_array_header_1_0
from numpy.typing import NDArray

from common.utils.errors import UserError, plain

HEADER = "header"
STYPE = "numpy.ndarray"  # what Flower calls numpy's own format
MAGIC = b"\x93NUMPY\x01\x00"  # version 1.0, which numpy writes for plain numbers
PREFIX = len(MAGIC) + 2  # bytes before an array's description: two say how long that is
# Read by this pattern and not by `np.load`, which parses the description as Python, takes zip
# archives for arrays, and allocates what a description claims before it looks for the bytes.
DESCRIPTION = re.compile(
    rb"\{'descr': '([<>|=]?[a-zA-NP-Z]\d{0,3})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,10}(?:, ?)?)*)\), \} *\n"
)
LARGEST_SIDE = 2**31  # of an array's dimension
HEAD, SIZE = struct.Struct("<I"), struct.Struct("<Q")  # of an encoded record
Encoded = bytes | bytearray
"""A record as it goes to a site's trainer and back: four bytes of length (little-endian), so many
bytes of protobuf with all but what is in the arrays, then array by array eight bytes of length and
the array's own. Protobuf would copy a model three times on its way in and out."""

T = TypeVar("T")


class MessageError(UserError):
    """A message that does not fit: which part, and what is wrong with it."""

    def __init__(self, text: str) -> None:
        super().__init__(plain(text))


def encode(record: RecordDict) -> bytes:
    """A RecordDict as bytes (`Encoded`); `MessageError` where it holds what protobuf cannot
    carry."""
    try:
        head = recorddict_to_proto(_hollow(record)).SerializeToString()
        pieces: list[bytes] = [HEAD.pack(len(head)), head]
        for array in _arrays(record):
            pieces += (SIZE.pack(len(array.data)), array.data)
        return b"".join(pieces)
    except (EncodeError, ValueError, TypeError, struct.error) as error:
        raise MessageError(f"no record: {error}") from None


def decode(data: Encoded) -> RecordDict:
    """The inverse of `encode`; `MessageError` for bytes that are no record."""
    try:
        (length,) = HEAD.unpack_from(data)
        view, at = memoryview(data), HEAD.size + length
        record = recorddict_from_proto(ProtoRecordDict.FromString(bytes(view[HEAD.size : at])))
        for array in _arrays(record):
            (size,) = SIZE.unpack_from(data, at)
            at += SIZE.size + size
            if array.data or at > len(data):
                raise ValueError("an array is not where it should be")
            array.data = bytes(view[at - size : at])
        if at != len(data):
            raise ValueError("there is more than its arrays")
        return record
    except (DecodeError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise MessageError(f"no record: {error}") from None


def _arrays(record: RecordDict) -> Iterator[Array]:
    """All arrays of a record, in its order."""
    for part in record.values():
        if isinstance(part, ArrayRecord):
            yield from part.values()


def _hollow(record: RecordDict) -> RecordDict:
    """The same record, but that its arrays are empty."""
    hollow = RecordDict()
    for key, part in record.items():
        if isinstance(part, ArrayRecord):
            arrays = {name: Array(a.dtype, a.shape, a.stype, b"") for name, a in part.items()}
            hollow[key] = ArrayRecord(arrays, keep_input=False)
        else:
            hollow[key] = part
    return hollow


def pack_array(numbers: NDArray[Any]) -> Array:
    """`Array(numbers)`, which copies them twice."""
    if not numbers.flags.c_contiguous:
        return Array(numbers)
    head = io.BytesIO()
    write_array_header_1_0(head, header_data_from_array_1_0(numbers))
    data = b"".join((head.getvalue(), numbers.data))
    return Array(str(numbers.dtype), tuple(numbers.shape), STYPE, data)


def read_array(packed: Array, dtype: type, ndim: int) -> NDArray[Any]:
    """The numbers of `packed`: exactly `dtype` with `ndim` dimensions, and finite. `ValueError`
    says what else it is."""
    data = packed.data
    start = PREFIX + int.from_bytes(data[len(MAGIC) : PREFIX], "little")
    found = DESCRIPTION.fullmatch(data[PREFIX:start])
    if packed.stype != STYPE or not data.startswith(MAGIC) or found is None:
        raise ValueError("unreadable: not numpy's format of plain numbers")
    kind, order, sides = found.groups()
    shape = tuple(int(side) for side in re.findall(rb"\d+", sides))
    expected = np.dtype(dtype)
    if kind.decode("latin-1") != expected.str or len(shape) != ndim:
        raise ValueError(
            f"{_name(kind)} with {len(shape)} dimensions, expected {expected} with {ndim}"
        )
    if max(shape, default=0) > LARGEST_SIDE or (
        math.prod(shape) * expected.itemsize != len(data) - start
    ):
        raise ValueError(f"unreadable: {len(data) - start} bytes for the shape {shape}")
    flat = np.frombuffer(data, expected, offset=start)
    if expected.kind == "f" and not np.isfinite(flat).all():
        raise ValueError("has NaN or infinite values")
    return flat.reshape(shape, order="F" if order == b"True" else "C").copy()


def _name(kind: bytes) -> str:
    try:
        return np.dtype(kind.decode("latin-1")).name
    except TypeError:
        return "unknown numbers"


def put_arrays(record: RecordDict, key: str, given: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as the part `key`; no part where there are none."""
    if given:
        record[key] = ArrayRecord({name: pack_array(array) for name, array in given.items()})


def arrays(record: RecordDict, key: str, dtype: type, ndim: int) -> dict[str, NDArray[Any]]:
    """The arrays of the part `key` (see `read_array`); none where there is no such part."""
    if key not in record:
        return {}
    part = record[key]
    if not isinstance(part, ArrayRecord):
        raise MessageError(f"{key}: not arrays")
    found = {}
    for name, packed in part.items():
        try:
            found[name] = read_array(packed, dtype, ndim)
        except ValueError as error:
            raise MessageError(f"{key}.{name}: {error}") from None
    return found


def config(record: RecordDict, key: str) -> Mapping[str, Any]:
    """The values of the part `key`; none where there is no such part."""
    if key not in record:
        return {}
    part = record[key]
    if not isinstance(part, ConfigRecord):
        raise MessageError(f"{key}: not a config record")
    return part


def header(record: RecordDict) -> Mapping[str, Any]:
    """The part that every message has."""
    found = config(record, HEADER)
    if not found:
        raise MessageError("header: missing")
    return found


def floats(record: RecordDict, key: str) -> dict[str, float]:
    """The values of the part `key`, each a finite number."""
    values = config(record, key)
    for name, value in values.items():
        if not isinstance(value, float) or not math.isfinite(value):
            raise MessageError(f"{key}.{name}: not a finite number")
    return dict(values)


def get(values: Mapping[str, Any], key: str, kind: type[T]) -> T:
    """The header's value `key`, which is exactly of type `kind`."""
    value = values.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise MessageError(f"header.{key}: missing, or not {kind.__name__}")
    return value


def get_strings(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The header's value `key`, a list of different strings."""
    found = get(values, key, list)
    if not all(isinstance(each, str) for each in found) or len(set(found)) < len(found):
        raise MessageError(f"header.{key}: not a list of different strings")
    return tuple(found)


def get_numbers(values: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """The header's value `key`, a list of positive whole numbers."""
    found = get(values, key, list)
    if not all(type(each) is int and each > 0 for each in found):
        raise MessageError(f"header.{key}: not a list of positive whole numbers")
    return tuple(found)
