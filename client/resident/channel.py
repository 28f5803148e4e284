"""What goes between a site's trainer and whoever has a question for it. Imports no torch.

A question is one encoded record. An answer is two frames: a byte that says what it is, and the
answering record or one line of text. Frames are raw bytes with their length before them (the
standard library's `Connection`); nothing is pickled.
"""

import socket as sockets
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from common.utils.errors import UserError, plain

READY, ANSWER, REFUSED, FAILED = b"+", b"=", b"!", b"?"
PATIENCE = 120.0  # seconds to wait for a trainer that is starting or being restarted
PAUSE = 0.2


class TrainerGoneError(ConnectionError):
    """The trainer ended while it was asked."""


def put(channel: Connection, record: bytes) -> bytes:
    """Ask the trainer at the other end of `channel`; its answer. `UserError` for what it refuses,
    `RuntimeError` where it failed, `TrainerGoneError` where it is gone."""
    try:
        channel.send_bytes(record)
        kind, content = channel.recv_bytes(), channel.recv_bytes()
    except (EOFError, OSError) as error:
        raise TrainerGoneError(str(error)) from None
    if kind == ANSWER:
        return content
    text = content.decode(errors="replace")
    raise UserError(text) if kind == REFUSED else RuntimeError(text)


def answer(channel: Connection, handle: Callable[[bytes], bytes]) -> None:
    """Take one question from `channel` and answer it; `EOFError` or `OSError` where nobody is
    there."""
    record = channel.recv_bytes()
    try:
        kind, content = ANSWER, handle(record)
    except UserError as error:
        kind, content = REFUSED, plain(str(error)).encode()
    except Exception as error:  # whatever it was, the next question is another one
        traceback.print_exc()
        kind, content = FAILED, plain(f"{type(error).__name__}: {error}").encode()
    channel.send_bytes(kind)
    channel.send_bytes(content)


def ask(socket: str, record: bytes, patience: float = PATIENCE) -> bytes:
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
                with Connection(dialled.detach()) as channel:
                    return put(channel, record)
        except TrainerGoneError:
            waiting = time.monotonic()
        except OSError:
            if time.monotonic() - waiting > patience:
                raise UserError(f"no trainer answers on {socket}") from None
        time.sleep(PAUSE)
