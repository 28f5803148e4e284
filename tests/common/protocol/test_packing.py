"""Gradients in whole numbers with shared exponents: near, unbiased, and read without trust."""

import numpy as np
import pytest

from common.protocol.messages import MessageError, Reply, decode, encode
from common.protocol.packing import BLOCK, FORMS, Packed, pack, unpack

SPREAD = 2.0 ** np.arange(-12, 3).repeat(20)  # sizes that differ from block to block


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def gradient(size: int) -> np.ndarray:
    return (drawn().normal(size=size) * np.resize(SPREAD, size)).astype(np.float32)


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1, 1000])
@pytest.mark.parametrize(("form", "steps"), [("int8", 63), ("int16", 2**14 - 1)])
def test_no_number_is_off_by_more_than_a_step_of_its_block(
    form: str, steps: int, size: int
) -> None:
    values = gradient(size)
    packed = pack(values, form, drawn(1))
    assert packed.mantissas.dtype == FORMS[form] and packed.mantissas.shape == (size,)
    found = unpack(packed)
    assert found.dtype == np.float32
    for start in range(0, size, BLOCK):
        block = slice(start, start + BLOCK)
        off = np.abs(found[block] - values[block]).max()
        assert off <= np.abs(values[block]).max() / steps


def test_on_average_it_is_the_number_itself() -> None:
    """Also where rounding to the nearest gives 0 each time."""
    values = np.full(BLOCK, 0.001, np.float32)
    values[0] = 1.0
    found = np.mean([unpack(pack(values, "int8", drawn(seed))) for seed in range(400)], axis=0)
    assert found[0] == 1.0
    assert found[1:].mean() == pytest.approx(0.001, rel=0.1)
    assert not np.rint(values[1:] * 127).any()


def test_zeros_and_numbers_next_to_nothing_are_zeros() -> None:
    for tiny in (0.0, 1e-45):
        values = np.full(3, tiny, np.float32)
        assert not unpack(pack(values, "int8", drawn())).any()


def reply(packed: Packed, **more) -> Reply:
    return Reply("gradient", "a", 1, 5, packed={"encoder": packed}, **more)


def read(sent: Reply) -> Reply:
    return Reply.from_record(decode(encode(sent.to_record())))


@pytest.mark.parametrize("form", FORMS)
def test_a_reply_arrives_with_the_numbers_that_its_whole_numbers_stand_for(form: str) -> None:
    values = gradient(300)
    packed = pack(values, form, drawn())
    arrived = read(reply(packed))
    assert not arrived.packed
    assert arrived.groups["encoder"].tobytes() == unpack(packed).tobytes()


def test_what_does_not_fit_is_refused_by_name() -> None:
    good = pack(gradient(300), "int8", drawn())
    few = Packed(good.mantissas, good.exponents[:-1])
    with pytest.raises(MessageError, match=r"int8.encoder: 4 exponents for 5 blocks"):
        read(reply(few))
    with pytest.raises(MessageError, match="an exponent that is not within"):
        read(reply(Packed(good.mantissas, np.full(5, 100, np.int8))))
    with pytest.raises(MessageError, match=r"groups.encoder: twice"):
        read(reply(good, groups={"encoder": gradient(300)}))
    record = reply(good).to_record()
    del record["int8"]
    with pytest.raises(MessageError, match="exponents: without numbers"):
        Reply.from_record(record)
