"""Parts of a body: what was packed comes out, in any chunks; what is wrong is said, and nothing is
held in memory that was only announced."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.flower.frames import (
    LENGTH,
    Bounds,
    FrameError,
    Scanner,
    TooLargeError,
    pack,
    size,
    unpack,
)

WIDE = Bounds(first=1000, part=1000, whole=100_000, parts=100)
PARTS = st.lists(st.binary(max_size=40), max_size=8)


def cut(body: bytes, seed: int) -> list[bytes]:
    """`body` in chunks of chance, some of them empty."""
    rng, chunks, at = random.Random(seed), [], 0
    while at < len(body):
        step = rng.randrange(0, 9)
        chunks.append(body[at : at + step])
        at += step
    return chunks


@given(PARTS, st.integers(0, 99))
def test_what_was_packed_comes_out_in_any_chunks(parts: list[bytes], seed: int) -> None:
    body = b"".join(pack(parts))
    assert len(body) == size(map(len, parts))
    assert list(unpack(cut(body, seed), WIDE)) == parts
    scanner = Scanner(WIDE)
    for chunk in cut(body, seed):
        scanner.feed(chunk)
    scanner.finish()
    assert [body[start : start + length] for start, length in scanner.places] == parts
    assert scanner.complete == len(parts)


@given(PARTS.filter(bool), st.integers(0, 99), st.data())
def test_a_body_that_is_cut_off_is_said_to_be(
    parts: list[bytes], seed: int, data: st.DataObject
) -> None:
    body = b"".join(pack(parts))
    ends = {size(map(len, parts[:n])) for n in range(len(parts) + 1)}
    end = data.draw(st.integers(0, len(body)).filter(lambda n: n not in ends))
    with pytest.raises(FrameError, match="cut off"):
        list(unpack(cut(body[:end], seed), WIDE))


@given(st.binary(max_size=300), st.integers(0, 99))
def test_garbage_gives_parts_that_were_there_or_an_error(body: bytes, seed: int) -> None:
    try:
        parts = list(unpack(cut(body, seed), WIDE))
    except FrameError:
        return
    assert b"".join(pack(parts)) == body


@pytest.mark.parametrize(
    ("bounds", "parts", "what"),
    [
        (Bounds(first=3, part=9, whole=99, parts=9), [b"four"], "a part has 4 bytes"),
        (Bounds(first=9, part=3, whole=99, parts=9), [b"four", b"four"], "a part has 4 bytes"),
        (Bounds(first=9, part=9, whole=15, parts=9), [b"four", b"four"], "more than 15 bytes"),
        (Bounds(first=9, part=9, whole=99, parts=1), [b"", b""], "more than 1 parts"),
    ],
)
def test_what_is_larger_than_its_bounds_is_refused(
    bounds: Bounds, parts: list[bytes], what: str
) -> None:
    with pytest.raises(TooLargeError, match=what):
        list(unpack(pack(parts), bounds))


def test_an_announced_part_is_refused_before_any_of_it_has_come() -> None:
    scanner = Scanner(WIDE)
    with pytest.raises(TooLargeError, match="4294967295 bytes"):
        scanner.feed(LENGTH.pack(2**32 - 1))
