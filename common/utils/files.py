"""Files that are never half written, and what Covey notes in its parameter files."""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Any

from common.utils.names import is_utf8

CHUNK = 65536  # bytes read at once, from the end of a file of lines


def write_atomic(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file whole: a reader sees the old or the new content, also after a power cut. It has
    `mode`, less the umask, from the moment it exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise _named(error, path) from None
    finally:
        part.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Append `line` whole: where the disk is full nothing of it stays, and what a process that was
    killed left of a line is taken off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("a+b", buffering=0) as file:
            end = _end_of_lines(file)
            file.truncate(end)
            data = line.encode() + b"\n"
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(end)
                raise
    except OSError as error:
        raise _named(error, path) from None


class Tail:
    """Reads the whole lines that are new in a file that another process appends to, or makes anew.

    `at_end`: begin with what comes from now on; `at_once`: of more new bytes than that, read the
    last ones.
    """

    def __init__(self, path: Path, *, at_end: bool = False, at_once: int | None = None) -> None:
        self._path = path
        self._at_once = at_once
        self._offset = path.stat().st_size if at_end and path.exists() else 0

    def lines(self) -> Iterator[bytes]:
        """Whole lines since the last call; none where there is no file."""
        try:
            with self._path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                if end < self._offset:
                    self._offset = 0  # lines were taken back, or it is a new file
                if self._at_once is not None:
                    self._offset = max(self._offset, end - self._at_once)
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # it is being written
                    self._offset += len(line)
                    yield line
        except FileNotFoundError:
            return


def _end_of_lines(file: RawIOBase) -> int:
    """The position behind the last whole line."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - CHUNK)
        file.seek(start)
        newline = (file.read(end - start) or b"").rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _named(error: OSError, path: Path) -> OSError:
    """The same error with the file's name: a full disk is found out where no name is known."""
    return OSError(error.errno, error.strerror, str(path))


@contextmanager
def utf8_path(path: Path) -> Iterator[str]:
    """A path to the file for libraries that take UTF-8 alone, whatever `path` is."""
    if is_utf8(path):
        yield str(path)
        return
    with path.open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


def note(facts: Mapping[str, Any]) -> dict[str, str]:
    """`facts` as the metadata of a safetensors file: one key, since several are written in a
    random order, and equal runs shall leave equal bytes."""
    return {"covey": json.dumps(facts, sort_keys=True)}


def read_note(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The inverse of `note`; `ValueError` for a file that Covey did not write."""
    try:
        return dict(json.loads((metadata or {})["covey"]))
    except (KeyError, TypeError, json.JSONDecodeError):
        raise ValueError("Covey did not write it") from None
