"""What goes between a site's trainer and whoever has a question for it. Imports no torch.

A question is one encoded record. An answer is two frames: a byte that says what it is, and the
answering record or one line of text. Frames are raw bytes with their length before them; nothing is
pickled. A frame comes in at its place: `multiprocessing.connection` would fill several times as
much memory for it.
"""

import select
import socket as sockets
import struct
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Self

from common.protocol.records import Encoded
from common.utils.errors import UserError, plain

READY, ANSWER, REFUSED, FAILED = b"+", b"=", b"!", b"?"
PATIENCE = 120.0  # seconds to wait for a trainer that is starting or being restarted
PAUSE = 0.2
LENGTH = struct.Struct("<Q")
Handler = Callable[[Encoded], Encoded]
"""Answers one encoded record with another."""


class TrainerGoneError(ConnectionError):
    """The trainer ended while it was asked."""


class Channel:
    """One end of the connected `socket`, for frames; a context manager, which closes it."""

    def __init__(self, socket: sockets.socket) -> None:
        self._socket = socket

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def __del__(self) -> None:
        self._socket.close()

    def send(self, frame: Encoded) -> None:
        """Send one frame; `OSError` where nobody is there."""
        self._socket.sendall(LENGTH.pack(len(frame)))
        self._socket.sendall(frame)

    def receive(self) -> bytearray:
        """The next frame; `EOFError` or `OSError` where the other end is gone."""
        (length,) = LENGTH.unpack(self._bytes(LENGTH.size))
        return self._bytes(length)

    def is_asked(self, seconds: float) -> bool:
        """Whether within so many seconds something came, or the other end is gone."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    def _bytes(self, number: int) -> bytearray:
        data = bytearray(number)
        left = memoryview(data)
        while left:
            came = self._socket.recv_into(left)
            if not came:
                raise EOFError
            left = left[came:]
        return data


def put(channel: Channel, record: Encoded) -> Encoded:
    """Ask the trainer at the other end of `channel`; its answer. `UserError` for what it refuses,
    `RuntimeError` where it failed, `TrainerGoneError` where it is gone."""
    try:
        channel.send(record)
        kind, content = channel.receive(), channel.receive()
    except (EOFError, OSError) as error:
        raise TrainerGoneError(str(error)) from None
    if kind == ANSWER:
        return content
    text = content.decode(errors="replace")
    raise UserError(text) if kind == REFUSED else RuntimeError(text)


def answer(channel: Channel, handle: Handler) -> None:
    """Take one question from `channel` and answer it; `EOFError` or `OSError` where nobody is
    there."""
    record = channel.receive()
    content: Encoded
    try:
        kind, content = ANSWER, handle(record)
    except UserError as error:
        kind, content = REFUSED, plain(str(error)).encode()
    except Exception as error:  # whatever it was, the next question is another one
        traceback.print_exc()
        kind, content = FAILED, plain(f"{type(error).__name__}: {error}").encode()
    channel.send(kind)
    channel.send(content)


def ask(socket: str, record: Encoded, patience: float = PATIENCE) -> Encoded:
    """Hand one encoded record to the trainer on the unix socket `socket`; return its answer.

    A trainer that dies while it works is asked again as soon as it is back: it starts from its last
    state and does the same work. `UserError` for what the trainer itself refuses, and when none
    answers for `patience` seconds.
    """
    waiting = time.monotonic()
    while True:
        try:
            with sockets.socket(sockets.AF_UNIX) as dialled:
                dialled.connect(socket)
                return put(Channel(dialled), record)
        except TrainerGoneError:
            waiting = time.monotonic()
        except OSError:
            if time.monotonic() - waiting > patience:
                raise UserError(f"no trainer answers on {socket}") from None
        time.sleep(PAUSE)
