"""Byzantine sites: recipes × attacks × defences, 10 sites of which 3 attack, as one CSV.

    COVEY_DATA=DIR python benchmarks/byzantine.py --seeds 0,1,2

Each run is a row of the CSV: NMI and ACC over all sites' images (also those of the attackers, which
answer `score` honestly), and how many answers were refused. A run that ends without a result has
empty figures. What has a row is not run again. At the end it prints, for each recipe and defence,
the NMI under each attack. `aggregation` and `centroids` of a defence are robust together; the
defence `mean` is none.
"""

import contextlib
import csv
import io
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _byzantine_attacks import ATTACKS, false_app
from _table import show

from client.app import build_app
from client.workbench import Workshop, pick_device
from common.config import recipes as known
from common.config.byzantine import MARGIN
from common.config.options import Plan
from common.data.planned import planned_data, planned_partition
from common.record.reader import read_run
from common.utils.errors import UserError
from common.utils.files import write_atomic
from deploy.engines.in_process import InProcessGrid, sites_of
from server.app import run
from server.run.folder import RunFolder

TABLE = Path("docs/results/byzantine.csv")
COLUMNS = ("recipe", "attack", "defence", "partition", "seed", "nmi", "acc", "refused")
KEY = COLUMNS[:5]
NONE = "none"
DEFENCES = ("mean", *MARGIN)
OWN = {"fedsimclr": {"normalisation": "batch"}}
"""BatchNorm, so that running statistics are there to be attacked."""

Row = dict[str, str]


def main(
    recipes: str = "fedsimclr,covey",
    attacks: str = f"{NONE},{','.join(ATTACKS)}",
    defences: str = ",".join(DEFENCES),
    partition: str = "iid",
    seeds: str = "0,1,2",
    dataset: str = "mnist",
    images: int = 3000,
    side: Annotated[int, typer.Option(help="scaled to; 0: as they are")] = 14,
    sites: int = 10,
    byzantine: Annotated[int, typer.Option(help="of the sites; also what is assumed")] = 3,
    rounds: int = 8,
    local_epochs: int = 1,
    batch_size: int = 32,
    encoder: str = "small-convnet",
    threads: int = 1,
    csv: Annotated[Path, typer.Option(help="rows are added to it")] = TABLE,
) -> None:
    """Run what is missing, then print the table."""
    torch.set_num_threads(threads)
    scale: dict[str, Any] = {
        "dataset": dataset,
        "images": images,
        "side": side,
        "sites": sites,
        "local-epochs": local_epochs,
        "batch-size": batch_size,
        "encoder": encoder,
        "partition": partition,
    }
    done = {tuple(row[k] for k in KEY) for row in read_rows(csv)}
    for seed in seeds.split(","):
        for recipe in recipes.split(","):
            for attack in attacks.split(","):
                for defence in defences.split(","):
                    key = (recipe, attack, defence, partition, seed)
                    if key in done:
                        continue
                    options = {**scale, "rounds": shared_rounds(recipe, rounds), "seed": seed}
                    plan = plan_of(recipe, defence, byzantine, options)
                    figures = outcome(plan, attack, byzantine)
                    save_row(csv, dict(zip(KEY, key, strict=True)) | figures)
                    print(*key, *figures.values(), flush=True)
    show_rows(read_rows(csv), partition)


def shared_rounds(recipe: str, rounds: int) -> str:
    """All rounds to the stages that train."""
    stages = known.load(recipe).document["stages"]
    return ",".join(
        "0" if "solver" in stage or stage.get("rounds") == 0 else str(rounds) for stage in stages
    )


def plan_of(recipe: str, defence: str, byzantine: int, options: dict[str, Any]) -> Plan:
    """The recipe with `defence` as the aggregation of each stage, and robust centroids."""
    robust: dict[str, Any] = {}
    if defence != "mean":
        plan = known.load(recipe).plan(options)
        rules = [f"robust-{stage.centroids}" for stage in plan.stages]
        robust = {"aggregation": defence, "byzantine": byzantine, "centroids": ",".join(rules)}
    return known.load(recipe).plan({**options, **OWN.get(recipe, {}), **robust})


def outcome(plan: Plan, attack: str, byzantine: int) -> Row:
    """The figures of one run, in which the last `byzantine` sites attack."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        with contextlib.redirect_stdout(io.StringIO()) as said:
            try:
                simulate(plan, folder, attack, byzantine)
            except (UserError, ValueError, ArithmeticError, RuntimeError) as error:
                print(f"failed: {error}", flush=True)
        record = read_run(folder)
        stages, refused = record.stages, sum(" refused: " in w.text for w in record.warnings)
        if len(stages) < len(plan.stages):
            last = (said.getvalue().strip().splitlines() or [""])[-1]
            print(f"    {last}", flush=True)
            return {"nmi": "", "acc": "", "refused": str(refused)}
        scores = {name: f"{stages[-1].figures[name]:.4f}" for name in ("nmi", "acc")}
        return {**scores, "refused": str(refused)}


def simulate(plan: Plan, folder: Path, attack: str, byzantine: int) -> None:
    """`covey simulate`, with false sites among the others."""
    data = planned_data(plan)
    partition = planned_partition(plan, data)
    workshop = Workshop(pick_device(plan.device))
    apps = {}
    for number, site in enumerate(sites_of(data, partition, folder / "sites", workshop)):
        false = attack != NONE and number >= plan.sites - byzantine
        apps[site.trainer.site] = (
            false_app(site, ATTACKS[attack], plan.seed)
            if false
            else build_app(lambda _context, record, own=site: own.handle(record))
        )
    run_folder = RunFolder(folder)
    with run_folder.held():
        run(InProcessGrid(apps), plan, run_folder, "in-process")


def read_rows(path: Path) -> list[Row]:
    """The CSV's rows; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def save_row(path: Path, row: Row) -> None:
    """Add one row, and write the file whole."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*read_rows(path), row])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue().encode())


def show_rows(rows: Sequence[Row], partition: str) -> None:
    """NMI by recipe: a line per defence, a column per attack, mean over seeds; `fails` where a run
    ended without a result."""
    rows = [row for row in rows if row["partition"] == partition]
    attacks = [a for a in (NONE, *ATTACKS) if any(row["attack"] == a for row in rows)]
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        lines = []
        for defence in DEFENCES:
            mine = [r for r in rows if (r["recipe"], r["defence"]) == (recipe, defence)]
            if mine:
                cells = [cell([r for r in mine if r["attack"] == a]) for a in attacks]
                lines.append((defence, len({r["seed"] for r in mine}), *cells))
        show(f"{recipe}, {partition}: NMI", ("defence", "seeds", *attacks), lines)


def cell(rows: Sequence[Row]) -> str:
    """Mean±std, `fails` if a run did."""
    if any(not row["nmi"] for row in rows):
        return "fails"
    values = [float(row["nmi"]) for row in rows]
    shown = [statistics.mean(values)] if values else []
    shown += [statistics.stdev(values)] if len(values) > 1 else []
    return "±".join(f"{value:.3f}".removeprefix("0") for value in shown) or "–"


if __name__ == "__main__":
    typer.run(main)
