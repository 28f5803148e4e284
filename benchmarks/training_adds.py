"""What training adds, on images that no site has: rows of `methods.py` beside those of the same
recipe without its rounds. Prints the table that docs/results/training.md quotes.

    python benchmarks/methods.py --csv docs/results/training.csv --rounds 10 --recipes covey
    python benchmarks/methods.py --csv docs/results/training.csv --rounds 0 --recipes covey
    python benchmarks/training_adds.py

NMI of the federation's centroids: on the sites' own images, and on the data set's test images.
Mean ± standard deviation (n-1) over the seeds that both have; the difference is taken within each
seed first.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from _methods_run import is_untrained
from claims import Row, figure, mean
from methods import read_rows

from common.models.encoders import FIXED

TABLE = Path("docs/results/training.csv")
USUAL = "small-convnet"
Key = tuple[str, str, str]
"""(data set, partition, what ran)."""

HEAD = (
    "recipe", "images of", "partition", "seeds", "own images", "new images", "ACC, new images",
    "without training: own", "new", "training adds on new images",
)  # fmt: skip


def main(
    csv: Annotated[Path, typer.Option(help="rows of methods.py")] = TABLE,
    images: Annotated[int, typer.Option(help="of the runs that are compared")] = 5000,
    sites: int = 10,
    rounds: int = 10,
) -> None:
    """Print the table as Markdown."""
    rows = [
        row
        for row in read_rows(csv)
        if (row["images"], row["sites"]) == (images, sites) and math.isfinite(row["test_nmi"])
    ]
    print("\n".join(table(rows, rounds)))


def table(rows: Sequence[Row], rounds: int) -> Iterator[str]:
    """Its lines: by data set and partition, the best on new images first."""
    trained = by_key(row for row in rows if row["rounds"] == rounds)
    cut = by_key(row for row in rows if is_untrained(row))
    solved = by_key(row for row in rows if not row["rounds"] and not is_untrained(row))
    yield f"| {' | '.join(HEAD)} |"
    yield f"|{'---|' * len(HEAD)}"
    for key, runs in sorted((trained | solved).items(), key=lambda item: place(*item)):
        yield line(key, runs, cut.get(key, {}) if key in trained else None)


def by_key(rows: Any) -> dict[Key, dict[int, Row]]:
    """The rows by data set, partition and recipe; then by seed."""
    found: dict[Key, dict[int, Row]] = {}
    for row in rows:
        key = (row["dataset"], row["partition"], named(row))
        found.setdefault(key, {})[row["seed"]] = row
    return found


def named(row: Row) -> str:
    """The recipe, and its encoder where that is not the usual one."""
    usual = (USUAL, *FIXED)
    return row["recipe"] if row["encoder"] in usual else f"{row['recipe']}, {row['encoder']}"


def place(key: Key, runs: dict[int, Row]) -> tuple[str, str, float]:
    """Where a line stands."""
    return key[0], key[1], -mean([row["test_nmi"] for row in runs.values()])


def line(key: Key, runs: dict[int, Row], without: dict[int, Row] | None) -> str:
    """One line; `without`: the same runs without training, None where nothing is trained."""
    seeds = sorted(runs if without is None else runs.keys() & without.keys()) or sorted(runs)
    own, new, acc = (
        figure([runs[seed][name] for seed in seeds]) for name in ("nmi", "test_nmi", "test_acc")
    )
    cells = [key[2], key[0], key[1], str(len(seeds)), own, new, acc]
    if without is None:
        cells += ["nothing is trained", "–", "–"]
    elif not runs.keys() & without.keys():
        cells += ["–"] * 3
    else:
        cells += [figure([without[seed][name] for seed in seeds]) for name in ("nmi", "test_nmi")]
        gains = [runs[seed]["test_nmi"] - without[seed]["test_nmi"] for seed in seeds]
        cells.append(("+" if mean(gains) >= 0 else "") + figure(gains))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    typer.run(main)
