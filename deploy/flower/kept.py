"""Large objects, which stay in the file in which they came.

SQLite writes a model to its log, from there to its file, and reads it all once more to delete it:
of 45 MB a tenth of a second of CPU each. So the database has a reference in the place of a large
object: file, offset, bytes. A file is deleted when nothing refers to it any more. What a process
was killed over is as good as in the database; after a power cut, what did not reach the disk is
found by its SHA-256 at the next start, and counts as not there.
"""

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from flwr.supercore.inflatable.inflatable_object import get_object_id
from flwr.supercore.state.schema.objectstore_models import StoredObject
from sqlalchemy import func, select, update

FOLDER = "objects"  # beside the database
MARK = b"\0covey "  # no object of Flower's begins like this: first comes its kind
REFERENCE = re.compile(re.escape(MARK) + rb"([a-z0-9_]{1,40}) (\d{1,15}) (\d{1,10})")
LONGEST = 100  # bytes of a reference


@dataclass(frozen=True)
class Reference:
    """Where an object's content is."""

    file: str
    offset: int
    length: int

    def encode(self) -> bytes:
        """As it is in the database."""
        return MARK + f"{self.file} {self.offset} {self.length}".encode("ascii")

    @classmethod
    def decode(cls, content: bytes) -> Self | None:
        """The inverse; None for what is no reference, but an object's content."""
        found = REFERENCE.fullmatch(content)
        return found and cls(found[1].decode("ascii"), int(found[2]), int(found[3]))


class Kept:
    """The files of one SuperLink, in `folder`; safe to use from threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._lock = threading.Lock()
        self._files = {path.name for path in folder.iterdir()}
        self._open: set[str] = set()  # those of bodies that are coming in, or being stored

    def create(self) -> tuple[str, IO[bytes]]:
        """A new file and its name; until it is released, it stays."""
        handle, path = tempfile.mkstemp(prefix="", dir=self._folder)
        name = Path(path).name
        with self._lock:
            self._files.add(name)
            self._open.add(name)
        return name, os.fdopen(handle, "w+b")

    def release(self, name: str, keep: bool) -> None:
        """From now on it stays as long as something refers to it, or no longer, unless `keep`."""
        with self._lock:
            self._open.discard(name)
        if not keep:
            self._delete(name)

    def read(self, content: bytes | None) -> bytes | None:
        """An object's `content`, or what it refers to; None where that is not there."""
        if content is None or not content.startswith(MARK):
            return content
        place = Reference.decode(content)
        if place is None:
            return None
        try:
            with (self._folder / place.file).open("rb") as file:
                file.seek(place.offset)
                found = file.read(place.length)
        except OSError:
            return None
        return found if len(found) == place.length else None

    def sweep(self, state: Any) -> None:
        """Delete what nothing refers to any more."""
        with self._lock:
            candidates = self._files - self._open
        if not candidates:
            return
        for name in candidates - {place.file for _, place in _references(state)}:
            self._delete(name)

    def tidy(self, state: Any) -> None:
        """At the start: forget objects whose content did not outlive the last process, and delete
        what nothing refers to."""
        lost = []
        for name, place in _references(state):
            content = self.read(place.encode())
            if content is None or get_object_id(content) != name:
                lost.append(name)
        if lost:
            with state.session() as session:
                session.execute(
                    update(StoredObject)
                    .where(StoredObject.object_id.in_(lost))
                    .values(content=b"", is_available=0)
                )
        self.sweep(state)

    def _delete(self, name: str) -> None:
        with suppress(OSError):  # it is tried again at the next start
            (self._folder / name).unlink()
        with self._lock:
            self._files.discard(name)


def _references(state: Any) -> Iterator[tuple[str, Reference]]:
    """(id, reference) of the objects that are in files."""
    short = func.length(StoredObject.content).between(len(MARK), LONGEST)
    with state.session() as session:
        rows = session.execute(
            select(StoredObject.object_id, StoredObject.content).where(short)
        ).all()
    for name, content in rows:
        place = Reference.decode(content)
        if place is not None:
            yield name, place


def keep_large(state: Any, folder: Path) -> Kept:
    """Where the large objects of the SuperLink with this `state` are; Flower, too, finds them from
    here on."""
    kept = Kept(folder / FOLDER)
    kept.tidy(state)
    store = state.object_store
    get = store.get
    store.get = lambda object_id: kept.read(get(object_id))
    return kept
