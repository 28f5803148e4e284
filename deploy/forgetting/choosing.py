"""Which images a site takes back: by their names, by the cluster that a run put them in, or all."""

import csv
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.dataset import LEAST
from client.storage.assignments import cell
from common.data import ImageData
from common.data.identity import PAGE
from common.data.images import Indices, Pixels
from common.utils.errors import UserError, plain
from common.utils.names import written

ASSIGNMENTS = "assignments.csv"


@dataclass(frozen=True)
class Wish:
    """What a site takes back: its images called `names`, those of `cluster`, or `everything`;
    exactly one of the three."""

    names: tuple[str, ...] = ()
    cluster: int | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        if bool(self.names) + (self.cluster is not None) + self.everything != 1:
            raise UserError("which images? Their names, --cluster K or --all: one of these")


def read_list(path: Path) -> tuple[str, ...]:
    """The names in a text file, one a line, each once; `UserError` where there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    names = tuple(dict.fromkeys(line for line in lines if line.strip()))
    if not names:
        raise UserError(f"{path} names no file: one name a line, as in {ASSIGNMENTS}")
    return names


def chosen(wish: Wish, data: ImageData, assignments: Path) -> Indices:
    """Rows of a site's `data` that are taken back. An image that a site has twice is taken back
    twice: it is the image that is meant, not the file. `assignments`: the site's clusters by the
    run. `UserError` for a name or a cluster that there is not, and where too few would be left."""
    if wish.everything:
        return np.arange(len(data.images))
    names = wish.names or in_cluster(assignments, wish.cluster or 0)
    rows = _twins(data.images, rows_of(names, data.names))
    left = len(data.images) - len(rows)
    if left < LEAST:
        raise UserError(
            f"{left} of the site's {len(data.images):,} images would be left, too few to take part "
            "with: --all takes back all of them"
        )
    return rows


def rows_of(names: Sequence[str], known: Sequence[str]) -> Indices:
    """The rows of images that are called so; several pages of one file go together. `UserError` for
    a name that the site has not."""
    places: dict[str, list[int]] = {}
    for row, name in enumerate(known):
        for said in {name, written(name), cell(name), PAGE.sub("", name)}:
            places.setdefault(said, []).append(row)
    missing = [name for name in names if name not in places]
    if missing:
        more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise UserError(f"the site has no image {plain(missing[0], 80)!r} in this run{more}")
    return np.unique([row for name in names for row in places[name]]).astype(np.int64)


def in_cluster(assignments: Path, cluster: int) -> tuple[str, ...]:
    """Names of the images that a run put into `cluster`, as the site's table has them; `UserError`
    where there is none."""
    try:
        with assignments.open(newline="", encoding="utf-8") as file:
            lines = [(line["image"], int(line["cluster"])) for line in csv.DictReader(file)]
    except FileNotFoundError:
        why = "the run has not put the site's images into clusters"
        raise UserError(f"there is no {assignments}: {why}") from None
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{assignments} is damaged") from None
    names = tuple(name for name, found in lines if found == cluster)
    if not names:
        known = sorted({found for _, found in lines})
        has = f"it has some in {_told(known)}"
        raise UserError(f"the site has no image in cluster {cluster}: {has}")
    return names


def _told(clusters: Collection[int]) -> str:
    return ", ".join(map(str, list(clusters)[:20])) + (", ..." if len(clusters) > 20 else "")


def _twins(images: Pixels, rows: Indices) -> Indices:
    """These rows, and all others with the same pixels."""
    wanted = {_digest(images[row]) for row in rows}
    return np.array([i for i, each in enumerate(images) if _digest(each) in wanted], np.int64)


def _digest(image: Pixels) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()
