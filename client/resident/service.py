"""The resident trainer's end: it answers one record at a time.

To the connection that started it, over a pair of sockets without a name, of which it has inherited
one. Or, beside a SuperNode, on a unix socket in a folder that only the site's user can enter, so
that the file system says who may talk to it.
"""

import select
import socket as sockets
from pathlib import Path

from client.resident.channel import READY, Channel, Handler, answer
from common.utils import memory
from common.utils.errors import UserError

SOCKET_LIMIT = 100  # bytes of a unix socket's path that every system takes
IDLE = 10.0  # seconds without a question after which what was freed goes back to the system
LOOK = 1.0  # seconds between two looks whether the socket's file is still there


def serve_inherited(descriptor: int, handle: Handler) -> None:
    """Say on the inherited socket that the trainer is ready, and answer what comes; return when
    whoever holds the other end is gone."""
    with Channel(sockets.socket(fileno=descriptor)) as channel:
        try:
            channel.send(READY)
            while True:
                if not channel.is_asked(IDLE):
                    memory.release()
                answer(channel, handle)
        except (EOFError, OSError):
            return


class NamedSocket:
    """A unix socket at `path` that stays there: a system's cleaner deletes files of the temporary
    folder that have been untouched for days, and nobody could reach the trainer any more."""

    def __init__(self, path: Path) -> None:
        if len(str(path).encode()) > SOCKET_LIMIT:
            raise UserError(f"socket path {path} is longer than {SOCKET_LIMIT} bytes")
        self._path = path
        self._bind()

    def accept(self) -> Channel:
        """The next who asks; meanwhile, a socket whose file is gone is bound anew."""
        while True:
            if self._file() != self._mine:
                self._listener.close()
                self._bind()
            if select.select([self._listener], [], [], LOOK)[0]:
                return Channel(self._listener.accept()[0])

    def close(self) -> None:
        """Let go of it."""
        self._listener.close()

    def _bind(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._listener = sockets.socket(sockets.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._mine = self._file()

    def _file(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def serve_named(socket: NamedSocket, handle: Handler) -> None:
    """Answer whoever connects, one after the other, for ever."""
    while True:
        with socket.accept() as channel:
            try:
                answer(channel, handle)
            except (EOFError, OSError):
                continue
