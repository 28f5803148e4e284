"""Files with weights, found by what is in them: their SHA-256.

They are looked for in folders of the caller's, in `$COVEY_WEIGHTS` (or `~/.cache/covey/weights`),
and where a file of that digest was last used on this machine. Digests are kept in an index, by size
and time of the last change, so that a file is read once.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config.encoder import DIGEST
from common.utils.errors import UserError
from common.utils.files import write_atomic
from common.utils.home import covey_home

VARIABLE = "COVEY_WEIGHTS"
SUFFIXES = (".safetensors", ".onnx")
WEIGHTS = "weights"  # the folder of a site in which it keeps its own
INDEX = "weights.json"  # in `$COVEY_HOME`
PART = 2**23  # bytes of a file that travel at once


@dataclass(frozen=True)
class Found:
    """A file with weights. `encoder`: whose they are, where that is known."""

    path: Path
    size: int
    digest: str
    encoder: str = ""


@dataclass(frozen=True)
class WeightStore:
    """Where weights are. `folders`: looked through first; `taken`: where a site keeps what it takes
    from its server, where it takes any."""

    folders: tuple[Path, ...] = ()
    taken: Path | None = None

    def given(self, text: str) -> Found:
        """The file that an option names by its path or its SHA-256; `UserError` where it is not
        there."""
        if DIGEST.fullmatch(text):
            found = self.find(text)
            if found is None:
                raise UserError(f"no weights with the SHA-256 {text[:12]}… are here: {self.places}")
            return found
        path = Path(text).absolute()
        if not path.is_file():
            raise UserError(f"weights: there is no file {path}")
        return _looked_at(path, _read_index())

    def find(self, digest: str, size: int = 0) -> Found | None:
        """A file with that SHA-256 (and `size`, if that is known); None where there is none."""
        index = _read_index()
        for path in self._paths(index):
            try:
                if size and path.stat().st_size != size:
                    continue
                found = _looked_at(path, index)
            except OSError:
                continue
            if found.digest == digest:
                return found
        return None

    def all(self) -> list[Found]:
        """Every file with weights that is here, once."""
        index, found = _read_index(), dict[str, Found]()
        for path in self._paths(index):
            try:
                one = _looked_at(path, index)
            except OSError:
                continue
            found.setdefault(one.digest, one)
        return list(found.values())

    @property
    def places(self) -> str:
        """Where was looked, for who has to put a file there."""
        named = ", ".join(str(folder) for folder in self.folders)
        return f"looked in {named + ', ' if named else ''}${VARIABLE} ({_common_folder()})"

    def _paths(self, index: dict[str, Any]) -> Iterator[Path]:
        for folder in (*self.folders, _common_folder()):
            try:
                names = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
            except OSError:
                continue
            yield from (path.absolute() for path in names if path.is_file())
        yield from (Path(place) for place in index)


def remember(found: Found, encoder: str) -> None:
    """Note where the file is and whose weights it holds."""
    index = _read_index()
    index[str(found.path)] = _entry(found.path, found.digest, encoder)
    _write_index(index)


def parts_of(size: int) -> int:
    """In how many parts a file of so many bytes travels."""
    return -(-size // PART)


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _common_folder() -> Path:
    given = os.environ.get(VARIABLE)
    return Path(given) if given else Path.home() / ".cache" / "covey" / "weights"


def _looked_at(path: Path, index: dict[str, Any]) -> Found:
    """The file, whose digest is the index's where neither size nor time has changed."""
    known = index.get(str(path), {})
    now = path.stat()
    if (known.get("size"), known.get("changed")) != (now.st_size, now.st_mtime_ns):
        digest = digest_of_file(path)
        known = index[str(path)] = _entry(path, digest, "")
        _write_index(index)
    return Found(path, now.st_size, str(known["sha256"]), str(known.get("encoder", "")))


def _entry(path: Path, digest: str, encoder: str) -> dict[str, Any]:
    facts = path.stat()
    about = {"size": facts.st_size, "changed": facts.st_mtime_ns, "sha256": digest}
    return {**about, "encoder": encoder}


def _read_index() -> dict[str, Any]:
    try:
        found = json.loads((covey_home() / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        path: entry
        for path, entry in found.items()
        if isinstance(entry, dict) and DIGEST.fullmatch(str(entry.get("sha256")))
    }


def _write_index(index: dict[str, Any]) -> None:
    """Keep the index; where that cannot be, files are read again."""
    here = {path: entry for path, entry in index.items() if Path(path).is_file()}
    try:
        write_atomic(covey_home() / INDEX, json.dumps(here, indent=1).encode())
    except OSError:
        return
