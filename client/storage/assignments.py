"""The site's own result: which cluster each of its images is in. It stays at the site."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from common.utils.files import write_atomic


def write_assignments(path: Path, names: Sequence[str], clusters: Sequence[int]) -> None:
    """Write `image,cluster` lines (UTF-8 CSV), replacing the file whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "cluster"))
    writer.writerows(zip(names, clusters, strict=True))
    write_atomic(path, text.getvalue().encode())
