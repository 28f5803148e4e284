"""Every recipe on the same images, encoder, rounds and local steps: recipes × data sets ×
partitions × seeds, as one CSV and one page.

    python benchmarks/methods.py --images 5000 --rounds 10 --seeds 0,1,2 --jobs 2

All runs use the in-process engine. What has run is not run again: neither what has a row in the CSV
(but with `--anew`) nor a finished run's folder in `--runs`, which is read; a run that was cut is
resumed. A run that fails is one line, and the others go on. Three entries are no recipes:
`centralised` (the ceiling) is fedsimclr with one site that holds everything: as many epochs, so ten
times a site's steps with ten sites; `standalone` (the floor) is fedsimclr at site 1 + seed alone,
judged on everybody's images; `pixels` is k-means on pixels. Controls run only where `--recipes`
names them (`controls`: all): a recipe with another normalisation, or `covey` with one site. With
`--rounds 0` a recipe has its closing stages alone: `training_adds.py` compares. One CSV is for one
`--local-epochs` and `--batch-size`.
"""

import csv
import io
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _methods_page import write_page
from _methods_run import (
    CONTROLS,
    Cell,
    Scale,
    finished_figures,
    is_untrained,
    machine_in_words,
    run_cell,
)

from common.config import recipes as known
from common.utils.errors import UserError, unknown
from common.utils.files import write_atomic
from common.utils.lock import locked

RECIPES = (
    "centralised", "standalone", "pixels", "fedkmeans", "kfed",
    "fedsimclr", "fedsimclr-projection", "fedmoco", "fedmoco-v3", "fedbyol", "fedsimsiam", "fedmim",
    "fedbarlow", "fedvicreg", "fedswav",
    "fedprox", "fedavgm", "fedadam", "ldawa", "fedu", "fedema", "fedema-constant", "fedu2",
    "fedx", "orchestra", "fedpropos", "fedcq-a", "fedcq-b", "fedcq-c", "fedcq-byol",
    "ccfc", "ccfc++", "fedcc", "fedmc", "fedmcc", "fedmcc-nc",
    "fedbyol-c", "fedbyol-nc", "fedbyol-reg", "fedbyol-reg-c", "fedbyol-reg-nc", "covey",
    "covey-sync", "covey-exact",
)  # fmt: skip
TABLE = Path("docs/results/methods.csv")
SETTING = ("recipe", "dataset", "images", "partition", "sites", "participation", "seed")
SCALE = ("rounds", "local_steps", "encoder")
FIGURES = ("acc", "nmi", "ari", "knn", "linear", "bytes", "seconds")
MORE = ("purity", "pooled_acc", "pooled_nmi", "std", "test_acc", "test_nmi", "commit")
COLUMNS = (*SETTING, *SCALE, *FIGURES, *MORE)
WHOLE = ("images", "sites", "seed", "rounds", "local_steps", "bytes")
TEXT = ("recipe", "dataset", "partition", "encoder", "commit")
KEY = (*SETTING, "rounds", "encoder")  # of rows that are the same run

Row = dict[str, Any]


def main(
    recipes: Annotated[str, typer.Option(help="a comma list; empty: all; controls: those")] = "",
    datasets: str = "fashion-mnist",
    images: Annotated[int, typer.Option(help="drawn by seed; 0: all")] = 5000,
    sites: int = 10,
    partitions: str = "iid,dirichlet(0.1),p-skew(1.0)",
    seeds: str = "0,1,2",
    rounds: Annotated[int, typer.Option(help="of a run, shared by its stages")] = 10,
    local_epochs: int = 1,
    batch_size: int = 128,
    encoder: str = "small-convnet",
    participation: float = 1.0,
    held_out: Annotated[int, typer.Option(help="test images for kNN and probe")] = 2000,
    jobs: Annotated[int, typer.Option(help="runs at a time, each in a process")] = 1,
    threads: Annotated[int, typer.Option(help="of each run")] = 1,
    runs: Annotated[Path, typer.Option(help="where the runs' folders go")] = Path("runs/methods"),
    csv: Annotated[Path, typer.Option(help="rows are added to it")] = TABLE,
    html: Annotated[Path | None, typer.Option(help="the page [default: beside the CSV]")] = None,
    machine: Annotated[str, typer.Option(help="in words, for the page; empty: this one's")] = "",
    html_only: Annotated[bool, typer.Option("--html-only", help="page of the CSV, no run")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="also what has a row in the CSV")] = False,
    tables: Annotated[bool, typer.Option(hidden=True)] = True,
) -> None:
    """Run what is missing, a row of the CSV each; at the end write the page."""
    torch.set_num_threads(threads)
    scale = Scale(images, sites, rounds, local_epochs, batch_size, encoder, participation, held_out)
    cells = list(
        cells_of(
            scale,
            chosen(recipes),
            split(datasets),
            split(partitions),
            [int(s) for s in split(seeds)],
        )
    )
    if html_only:
        cells = []
    if tables and not anew:
        done = {key_of(row) for row in read_rows(csv)}
        cells = [cell for cell in cells if key_of(cell.setting) not in done]
    failed = 0
    for number, (cell, result) in enumerate(results(cells, runs, jobs, threads), start=1):
        where = f"[{number}/{len(cells)}] {cell.title}"
        if isinstance(result, str):
            failed += 1
            print(f"{where}: FAILED: {result}", flush=True)
            continue
        print(f"{where}: nmi {result['nmi']:.3f} acc {result['acc']:.3f}", flush=True)
        if tables:
            save_row(csv, result, runs)
    rows = [row for row in read_rows(csv) if not is_untrained(row)] if tables else []
    if rows:
        more = f"--local-epochs {local_epochs} --batch-size {batch_size} --held-out {held_out}"
        page = html or csv.with_suffix(".html")
        write_page(page, rows, machine or machine_in_words(), more)
        print(page)
    if failed:
        print(f"{failed} of {len(cells)} runs failed")
        raise typer.Exit(1)


def chosen(names: str) -> list[str]:
    """The entries to run; `UserError` for one that is not there."""
    there = [name for name in RECIPES if is_there(name)]
    asked = [n for name in split(names) for n in (CONTROLS if name == "controls" else (name,))]
    for name in asked:
        if not is_there(name):
            raise unknown("recipe", name, [*there, *CONTROLS, *known.names()])
    return asked or there


def is_there(name: str) -> bool:
    """Whether the project has the recipe of this entry."""
    return Cell.recipe_of(name) in known.names()


def split(text: str) -> list[str]:
    """The parts of a comma list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def cells_of(
    scale: Scale,
    names: Sequence[str],
    datasets: Sequence[str],
    partitions: Sequence[str],
    seeds: Sequence[int],
) -> Iterator[Cell]:
    """Every run of the matrix, once: a seed of everything before the next seed."""
    cells: dict[Cell, None] = {}
    for seed in seeds:
        for dataset in datasets:
            for partition in partitions:
                for name in names:
                    cells[Cell.of(scale, name, dataset, partition, seed)] = None
    yield from cells


def results(
    cells: Sequence[Cell], runs: Path, jobs: int, threads: int
) -> Iterator[tuple[Cell, Row | str]]:
    """Each cell with its row, or with the reason why there is none; done ones first."""
    missing = []
    for cell in cells:
        row = finished_figures(cell, runs)
        if row is None:
            missing.append(cell)
        else:
            yield cell, row
    if jobs == 1:
        yield from ((cell, run_cell(cell, runs)) for cell in missing)
        return
    started: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(run_apart, cell, runs, threads, started): cell for cell in missing}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BaseException:  # Ctrl-C, say: what is under way is resumed by the next call
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.terminate()
            raise


def run_apart(
    cell: Cell, runs: Path, threads: int, started: list[subprocess.Popen[str]]
) -> Row | str:
    """`run_cell` in a process of its own, which is added to `started`: this script, for one cell
    and without tables."""
    command = [sys.executable, __file__, *cell.options(), "--runs", str(runs)]
    command += ["--jobs", "1", "--threads", str(threads), "--no-tables"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    started.append(process)
    out, err = process.communicate()
    row = finished_figures(cell, runs)
    if row is not None:
        return row
    for line in out.splitlines():
        if "FAILED: " in line:
            return line.split("FAILED: ", 1)[1]
    last = err.strip().splitlines()[-1:] or [""]
    return f"the process ended with {process.returncode} {last[0]}".strip()


def key_of(row: Row) -> tuple[Any, ...]:
    """What says that two rows are of the same run."""
    return tuple(row[k] for k in KEY)


def read_rows(path: Path) -> list[Row]:
    """The CSV's rows, as numbers where they are numbers; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: _value(k, text) for k, text in row.items()} for row in csv.DictReader(file)]


def _value(column: str, text: str) -> Any:
    if column in TEXT:
        return text
    if column in WHOLE:
        return int(text)
    return float(text) if text else math.nan  # of rows from before there was the column


def save_row(path: Path, row: Row, runs: Path) -> None:
    """Put one row into the CSV, in place of the row of the same run, and write it whole."""
    runs.mkdir(parents=True, exist_ok=True)
    with locked(runs / ".csv.lock", 60.0):
        rows = {key_of(r): r for r in [*read_rows(path), row]}
        write_atomic(path, as_csv(rows.values()).encode())


def as_csv(rows: Iterable[Row]) -> str:
    """The rows in a fixed order: by data set, partition, entry, seed."""
    order = {name: index for index, name in enumerate(RECIPES)}

    def place(row: Row) -> tuple[Any, ...]:
        name = row["recipe"]
        first = [row[k] for k in ("dataset", "images", "sites", "participation", "rounds")]
        return (*first, row["partition"], order.get(name, len(order)), name, row["seed"])

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in sorted(rows, key=place):
        writer.writerow({k: "" if str(v) == "nan" else v for k, v in row.items()})
    return text.getvalue()


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(str(error))
