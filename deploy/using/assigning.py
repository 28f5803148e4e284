"""`covey assign`: which cluster each picture of a folder belongs to, as a table.

What is done is kept in a file beside the result, line by line, so that a run over many pictures
that was ended goes on where it was.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from client.statistics.assigned import assign
from client.storage.assignments import cell
from common.record.account import Kind
from common.utils.errors import UserError
from common.utils.files import write_atomic
from deploy.using.embedding import Embedded, embedded
from deploy.using.model import Opened
from deploy.using.pictures import Pictures

COLUMNS = ("file", "cluster", "name", "confidence", "distance", "runner_up")
HEADER = ",".join(COLUMNS)
PARQUET = ".parquet"


@dataclass
class Result:
    """What came of it: lines of the table, and names of files that cannot be read. `resumed`: how
    many lines were there already."""

    lines: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    resumed: int = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Images by name of their cluster, most first."""
        found: dict[str, int] = {}
        for row in csv.reader(self.lines):
            found[row[2]] = found.get(row[2], 0) + 1
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def assign_folder(opened: Opened, pictures: Pictures, output: Path, console: Console) -> Result:
    """Write the table of all pictures to `output`, .csv or .parquet. `UserError` for other kinds of
    file, and for one that is there and is no such table."""
    _check(output)
    centroids = opened.centroids()
    journal = _Journal(output.with_name(f".{output.name}.part"), opened, pictures)
    result = Result()
    left = list(pictures.before.left_out)
    result.lines = journal.begin()
    result.resumed = len(result.lines)
    done = {next(csv.reader([line]))[0] for line in result.lines}
    without = {name for name in pictures.names if cell(name) in done} if done else set()
    with journal:
        for chunk in embedded(opened, pictures, console, without):
            if len(chunk.data.images):
                lines = list(_lines(opened, chunk, centroids))
                journal.add(lines)
                result.lines += lines
            left += chunk.left
    result.unreadable = sorted({each.name for each in left if each.kind is not Kind.LINK})
    _write(output, result.lines)
    journal.path.unlink(missing_ok=True)
    _list_unreadable(output, result.unreadable)
    return result


def _lines(opened: Opened, chunk: Embedded, centroids: Any) -> Iterator[str]:
    found = assign(chunk.points, centroids)
    columns = zip(
        chunk.data.names,
        found.cluster.tolist(),
        found.confidence.tolist(),
        found.distance.tolist(),
        found.runner_up.tolist(),
        strict=True,
    )
    shown = [opened.facts.shown(cluster) for cluster in range(opened.facts.clusters)]
    for name, cluster, sure, far, second in columns:
        called = cell(shown[cluster])
        yield _csv((cell(name), cluster, called, f"{sure:.4f}", f"{far:.4f}", second))


def _csv(row: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()


class _Journal:
    """What is done so far, of one model over one folder under its names of today."""

    def __init__(self, path: Path, opened: Opened, pictures: Pictures) -> None:
        self.path = path
        place = "" if pictures.folder is None else cell(str(pictures.folder.absolute()))
        names = [opened.facts.shown(cluster) for cluster in range(opened.facts.clusters)]
        self._about = _csv((opened.identity, place, *map(cell, names)))

    def begin(self) -> list[str]:
        """The whole lines that are there; none where they are of something else."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            return []
        about, *lines = text.split("\n")
        lines = [line for line in lines[:-1] if len(next(csv.reader([line]), [])) == len(COLUMNS)]
        return lines if about == self._about else []

    def __enter__(self) -> "_Journal":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = "".join(f"{line}\n" for line in (self._about, *self.begin()))
        write_atomic(self.path, kept.encode())
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def add(self, lines: Iterable[str]) -> None:
        """Keep these, too."""
        self._file.write("".join(f"{line}\n" for line in lines))
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _check(output: Path) -> None:
    if output.suffix not in (".csv", PARQUET):
        raise UserError(f"{output}: a table is a .csv or a {PARQUET} file")
    if output.suffix == PARQUET:
        _pyarrow()
    elif output.exists():
        with output.open(encoding="utf-8", errors="replace") as file:
            if file.readline().strip() != HEADER:
                raise UserError(f"{output} is there and is something else: --output names another")


def _write(output: Path, lines: Sequence[str]) -> None:
    if output.suffix != PARQUET:
        write_atomic(output, "".join(f"{line}\n" for line in (HEADER, *lines)).encode())
        return
    arrow, parquet = _pyarrow()
    rows = zip(*csv.reader(lines), strict=True)
    text, whole, number = arrow.string(), arrow.int32(), arrow.float32()
    kinds = (text, whole, text, number, number, whole)
    arrays = [arrow.array(column).cast(kind) for column, kind in zip(rows, kinds, strict=True)]
    sink = io.BytesIO()
    parquet.write_table(arrow.Table.from_arrays(arrays, names=list(COLUMNS)), sink)
    write_atomic(output, sink.getvalue())


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415 (an extra)
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise UserError(f"{PARQUET} needs pyarrow: pip install 'covey[parquet]'") from None
    return pyarrow, pyarrow.parquet


def _list_unreadable(output: Path, unreadable: Sequence[str]) -> None:
    """`TABLE.unreadable.txt` names them, a line each; there is none where all can be read."""
    path = output.with_name(f"{output.stem}.unreadable.txt")
    if unreadable:
        write_atomic(path, "".join(f"{cell(name)}\n" for name in unreadable).encode())
    else:
        path.unlink(missing_ok=True)
