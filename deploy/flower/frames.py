"""Parts of a body: each is four bytes of length (little-endian) and so many bytes.

A whole message travels like this (`deploy/flower/whole.py`). A reader knows beforehand how many
parts there may be and how large they may be, and never holds more than one of them.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LENGTH = struct.Struct("<I")
LARGEST = 2**32 - 1  # bytes of a part, which its length can say
AT_ONCE = 2**18  # bytes that are written to a file, or sent, at once
AT_FIRST = 2**23  # bytes for which there is room as soon as a part is announced
Piece = bytes | bytearray | memoryview
Part = Piece | tuple[Piece, ...]
"""A part's bytes, perhaps in pieces that follow each other."""


class FrameError(ValueError):
    """A body that is cut off, or larger than it may be."""


class TooLargeError(FrameError):
    """A body with more bytes or parts than it may have."""


@dataclass(frozen=True)
class Bounds:
    """The most that a body may have: bytes of its first part and of any other, bytes of all parts
    with their lengths, number of parts."""

    first: int
    part: int
    whole: int
    parts: int


class Scanner:
    """Follows a body as it comes in, in chunks of any size, and keeps none of it.

    `places` are (offset, length) of the parts that have begun; `feed` and `finish` raise
    `FrameError`.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds  # may be changed when the first part has been read
        self.places: list[tuple[int, int]] = []
        self.seen = 0  # bytes
        self._length = b""  # of the next part, as far as it is known
        self._left = 0  # bytes of the part that is being read

    def feed(self, chunk: Piece) -> None:
        """Go on with the next bytes of the body."""
        at = 0
        while at < len(chunk):
            if self._left:
                step = min(self._left, len(chunk) - at)
                self._left -= step
            else:
                step = min(LENGTH.size - len(self._length), len(chunk) - at)
                self._length += chunk[at : at + step]
            at += step
            self.seen += step
            if len(self._length) == LENGTH.size:
                self._begin()

    def _begin(self) -> None:
        (length,) = LENGTH.unpack(self._length)
        self._length = b""
        most = self.bounds.part if self.places else self.bounds.first
        if length > most:
            raise TooLargeError(f"a part has {length} bytes, where {most} are allowed")
        if len(self.places) >= self.bounds.parts:
            raise TooLargeError(f"there are more than {self.bounds.parts} parts")
        if self.seen + length > self.bounds.whole:
            raise TooLargeError(f"there are more than {self.bounds.whole} bytes")
        self.places.append((self.seen, length))
        self._left = length

    @property
    def complete(self) -> int:
        """The number of parts that are there as a whole."""
        return len(self.places) - bool(self._left)

    @property
    def expected(self) -> int:
        """Bytes of the parts that have begun."""
        return self.seen + self._left

    def finish(self) -> None:
        """The body has ended; `FrameError` in the middle of a part."""
        if self._left or self._length:
            missing = self._left or LENGTH.size - len(self._length)
            raise FrameError(f"the body is cut off: {missing} bytes are missing")


def pack(parts: Iterable[Part]) -> Iterator[Piece]:
    """The pieces of a body with these parts; `FrameError` for one that is too large."""
    for part in parts:
        pieces = part if isinstance(part, tuple) else (part,)
        length = sum(map(len, pieces))
        if length > LARGEST:
            raise TooLargeError(f"a part of {length} bytes")
        yield LENGTH.pack(length)
        for piece in pieces:
            yield from cut(piece)


def cut(piece: Piece) -> Iterator[Piece]:
    """Pieces of at most `AT_ONCE` bytes, which are not copied."""
    if len(piece) <= AT_ONCE:
        yield piece
        return
    view = memoryview(piece)
    for at in range(0, len(view), AT_ONCE):
        yield view[at : at + AT_ONCE]


def size(lengths: Iterable[int]) -> int:
    """Bytes of a body whose parts have these lengths."""
    return sum(LENGTH.size + length for length in lengths)


def unpack(chunks: Iterable[bytes], bounds: Bounds) -> Iterator[bytearray]:
    """The parts of a body that comes in chunks, one by one; `FrameError` where it is cut off or
    larger than `bounds`."""
    scanner = Scanner(bounds)
    part, filled = bytearray(), 0
    given = 0
    for chunk in chunks:
        start, view = scanner.seen, memoryview(chunk)
        scanner.feed(chunk)
        while given < len(scanner.places):
            offset, length = scanner.places[given]
            if not filled:
                part = bytearray(min(length, AT_FIRST))
            begin = max(offset + filled - start, 0)
            piece = view[begin : offset + length - start]
            part[filled : filled + len(piece)] = piece
            filled += len(piece)
            if filled < length:
                break
            yield part
            filled = 0
            given += 1
    scanner.finish()
