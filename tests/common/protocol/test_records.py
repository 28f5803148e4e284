"""Records as they go to a trainer and back: whole, or refused; arrays as Flower packs them."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.protocol.records import HEAD, SIZE, MessageError, decode, encode, pack_array

ARRAYS = st.dictionaries(
    st.text(max_size=5),
    hnp.arrays(st.sampled_from([np.float32, np.int64]), hnp.array_shapes(min_dims=0, min_side=0)),
    max_size=3,
)
RECORD = RecordDict(
    {
        "header": ConfigRecord({"kind": "hello", "n": 1}),
        "groups": ArrayRecord({"a": Array(np.arange(3.0)), "b": Array(np.zeros((0, 2)))}),
        "more": ArrayRecord({"c": Array(np.arange(4, dtype=np.int64))}),
    }
)


@given(ARRAYS, ARRAYS)
def test_what_was_encoded_is_decoded_to_the_bit(first, second) -> None:
    record = RecordDict(
        {
            "header": ConfigRecord({"names": ["a", "b"], "x": 1.5}),
            "first": ArrayRecord({name: pack_array(array) for name, array in first.items()}),
            "numbers": MetricRecord({"loss": 0.5}),
            "second": ArrayRecord({name: pack_array(array) for name, array in second.items()}),
        }
    )
    for data in (encode(record), bytearray(encode(record))):
        assert decode(data) == record and list(decode(data)) == list(record)


@given(ARRAYS)
def test_an_array_is_packed_as_flower_packs_it(arrays) -> None:
    for array in arrays.values():
        for each in (
            array,
            np.asfortranarray(array),
            array.T,
            array[..., ::2] if array.ndim else 0,
        ):
            if isinstance(each, np.ndarray):
                assert pack_array(each) == Array(each) and type(pack_array(each).data) is bytes


@given(st.data())
def test_what_is_cut_off_or_too_long_is_no_record(data) -> None:
    whole = encode(RECORD)
    end = data.draw(st.integers(0, len(whole) - 1))
    for spoiled in (whole[:end], whole + b"\0", whole[:end] + b"\0" + whole[end:]):
        try:
            found = decode(spoiled)
        except MessageError:
            continue
        assert len(spoiled) > end and len(encode(found)) == len(spoiled)
    with pytest.raises(MessageError):
        decode(whole[:end])


def test_a_length_that_is_none_is_refused_before_there_is_room_for_it() -> None:
    whole = encode(RECORD)
    (head,) = HEAD.unpack_from(whole)
    at = HEAD.size + head
    for size in (2**63, 2**64 - 1, 10**12):
        with pytest.raises(MessageError):
            decode(whole[:at] + SIZE.pack(size) + whole[at + SIZE.size :])
    with pytest.raises(MessageError):
        decode(HEAD.pack(2**32 - 1) + whole[HEAD.size :])
