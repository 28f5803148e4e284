"""Symmetric sums travel as halves, and are whole again at the server, or refused."""

import numpy as np
import pytest

from common.protocol.compact import expanded, halved
from common.protocol.declaration import Sizes
from common.protocol.exchanges import EXCHANGES
from common.protocol.messages import Reply
from common.protocol.records import MessageError

SIZES = Sizes(width=5, clusters=2)


def symmetric(size: int) -> np.ndarray:
    square = np.random.default_rng(0).normal(size=(size, size))
    return square + square.T


@pytest.mark.parametrize(("wire", "off"), [("half", 0), ("compact", 1e-6)])
def test_a_matrix_is_whole_again(wire: str, off: float) -> None:
    sent = {"gram": symmetric(6), "within": symmetric(5)}
    reply = Reply("moments", "site", 0, 3, moments=sent).in_halves(wire)
    assert not reply.moments and reply.halves["gram"].shape == (21,)
    read = Reply.from_record(reply.to_record())
    found = expanded(read.halves, EXCHANGES["moments"], SIZES, wire)
    assert all(np.allclose(found[name], sent[name], rtol=off, atol=0) for name in sent)


@pytest.mark.parametrize("asked", ["exact", "half", "compact"])
def test_numbers_of_another_wire_than_the_stages_are_refused(asked: str) -> None:
    sent = "compact" if asked == "half" else "half"
    reply = Reply("moments", "site", 0, 3, moments={"within": symmetric(5)}).in_halves(sent)
    with pytest.raises(MessageError, match=f"halves.within: float.. does not fit wire = {asked}"):
        expanded(reply.halves, EXCHANGES["moments"], SIZES, asked)


def test_what_is_zero_at_its_end_is_left_out() -> None:
    used = np.zeros((5, 5))
    used[:2, :2] = [[1, 2], [2, 0]]
    assert halved(used, "half").tolist() == [1, 2, 0]
    assert not halved(np.zeros((5, 5)), "half").size
    found = expanded({"affinity": halved(used, "half")}, EXCHANGES["affinity"], SIZES, "half")
    assert np.array_equal(found["affinity"], used)


def test_sums_that_are_no_symmetric_matrices_stay_as_they_are() -> None:
    reply = Reply("lloyd", "site", 0, 3, moments={"sums": np.ones((4, 5))}).in_halves("half")
    assert not reply.halves and reply.moments["sums"].shape == (4, 5)


@pytest.mark.parametrize(
    ("halves", "message"),
    [
        ({"gram": np.zeros(20, np.float32)}, "20 numbers are no half"),
        ({"gram": np.zeros(28, np.float32)}, "28 numbers are no half of 6×6"),
        ({"other": np.zeros(1, np.float32)}, "not asked for"),
    ],
)
def test_a_half_of_another_size_is_refused_before_anything_is_made(halves, message: str) -> None:
    with pytest.raises(MessageError, match=message):
        expanded(halves, EXCHANGES["moments"], SIZES, "compact")
