"""Messages survive the wire bit for bit, and what does not fit is named."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.clustering.centroids import Centroids
from common.config import recipes
from common.protocol.messages import Instruction, MessageError, Reply, decode, encode, wire_size

PLAN = recipes.load("fedmcc").plan({"clusters": 3})
floats = st.floats(-1e6, 1e6, width=32)


def reply(**parts) -> Reply:
    return Reply(**({"kind": "train", "site": "ward-3", "round": 2, "examples": 7} | parts))


def over_the_wire(message):
    return type(message).from_record(decode(encode(message.to_record())))


@given(hnp.arrays(np.float32, st.integers(1, 20), elements=floats), st.integers(1, 10**9))
def test_a_reply_survives_the_wire_bit_for_bit(flat, examples) -> None:
    sent = reply(
        examples=examples,
        groups={"encoder": flat},
        layout="abc",
        centroids=Centroids(np.eye(3, 4, dtype=np.float32), np.array([5, 6, 7])),
        tables={"local": np.arange(6).reshape(3, 2)},
        moments={"gram": np.eye(5), "cross": np.ones((5, 2))},
        vectors={"sum": np.arange(4.0)},
        sums={"loss.loss": 1.5},
        seconds={"train": 0.25},
        info={"side": 8, "classes": ["a", "b"]},
    )
    got = over_the_wire(sent)
    assert got.groups["encoder"].tobytes() == flat.tobytes()
    assert (got.examples, got.layout, got.sums, got.seconds) == (
        examples,
        "abc",
        sent.sums,
        sent.seconds,
    )
    assert np.array_equal(got.centroids.points, sent.centroids.points)
    assert np.array_equal(got.centroids.counts, sent.centroids.counts)
    assert np.array_equal(got.tables["local"], sent.tables["local"])
    assert np.array_equal(got.moments["gram"], sent.moments["gram"])
    assert np.array_equal(got.vectors["sum"], sent.vectors["sum"])
    assert got.info == sent.info


def test_an_instruction_survives_the_wire() -> None:
    sent = Instruction(
        kind="score",
        run="a run",
        round=3,
        plan=PLAN,
        layout="abc",
        groups={"encoder": np.ones(3, np.float32)},
        centroids=Centroids(np.eye(2, dtype=np.float32), np.array([0, 9])),
        probe=np.ones((3, 2), np.float32),
        classes=("cat", "dog"),
    )
    got = over_the_wire(sent)
    assert (got.kind, got.run, got.round, got.plan, got.classes) == (
        "score",
        "a run",
        3,
        PLAN,
        ("cat", "dog"),
    )
    assert np.array_equal(got.probe, sent.probe)


def test_an_empty_reply_and_no_classes_are_fine() -> None:
    assert over_the_wire(reply()).groups == {}
    assert over_the_wire(Instruction("hello", "r", 0, PLAN)).classes == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_by_the_name_of_its_part(bad: float) -> None:
    record = reply(groups={"encoder": np.array([1, bad], np.float32)}).to_record()
    with pytest.raises(MessageError, match=r"groups\.encoder: has NaN"):
        Reply.from_record(record)


@pytest.mark.parametrize(
    ("part", "arrays", "message"),
    [
        ("groups", {"encoder": np.ones(2)}, r"groups\.encoder: float64"),
        ("groups", {"encoder": np.ones((2, 2), np.float32)}, "2 dimensions"),
        ("tables", {"head": -np.ones((2, 2), np.int64)}, "negative counts"),
        ("counts", {"counts": np.ones(3, np.int64)}, "counts without points"),
    ],
)
def test_a_part_of_the_wrong_type_is_refused_by_name(part, arrays, message) -> None:
    record = reply().to_record()
    record[part] = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    with pytest.raises(MessageError, match=message):
        Reply.from_record(record)


def test_centroids_and_counts_must_fit() -> None:
    record = reply().to_record()
    record["centroids"] = ArrayRecord({"points": Array(np.eye(3, dtype=np.float32))})
    record["counts"] = ArrayRecord({"counts": Array(np.ones(2, np.int64))})
    with pytest.raises(MessageError, match="do not fit"):
        Reply.from_record(record)


@pytest.mark.parametrize("key", ["kind", "site", "round", "examples"])
def test_a_header_without_one_of_its_fields_is_refused(key: str) -> None:
    record = reply().to_record()
    del record["header"][key]
    with pytest.raises(MessageError, match=f"header.{key}"):
        Reply.from_record(record)


def test_bytes_that_are_no_array_are_refused_and_never_unpickled() -> None:
    pickled = Array(dtype="object", shape=(1,), stype="numpy.ndarray", data=b"\x80\x04garbage")
    record = reply().to_record()
    record["groups"] = ArrayRecord({"encoder": pickled})
    with pytest.raises(MessageError, match=r"groups\.encoder: unreadable"):
        Reply.from_record(record)


def test_a_record_that_is_no_message_is_refused() -> None:
    with pytest.raises(MessageError, match="header: missing"):
        Reply.from_record(RecordDict({"other": ConfigRecord({"a": 1})}))


def test_wire_size_counts_the_arrays() -> None:
    small = wire_size(reply(groups={"encoder": np.zeros(10, np.float32)}).to_record())
    large = wire_size(reply(groups={"encoder": np.zeros(1010, np.float32)}).to_record())
    assert large - small == 4000
