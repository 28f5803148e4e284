"""The site's own result: which cluster each of its images is in. It stays at the site.

People open the file in a spreadsheet, which takes a text that begins with one of `FORMULA` for a
formula: such a name is written as `./=name`, which is the same file.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from common.utils.files import write_atomic
from common.utils.names import written

FORMULA = ("=", "+", "-", "@")


def write_assignments(path: Path, names: Sequence[str], clusters: Sequence[int]) -> None:
    """Write `image,cluster` lines (UTF-8 CSV), replacing the file whole; names as `written`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "cluster"))
    writer.writerows(zip(map(cell, names), clusters, strict=True))
    write_atomic(path, text.getvalue().encode())


def cell(name: str) -> str:
    """A name as a spreadsheet takes it for a text (see above), on one line."""
    return written(f"./{name}" if name.startswith(FORMULA) else name)
