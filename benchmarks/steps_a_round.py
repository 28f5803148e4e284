"""What training is worth, over how many exchanges it takes: steps a round.

    python benchmarks/steps_a_round.py --dataset cifar10 --csv docs/results/steps.csv
    python benchmarks/steps_a_round.py --dataset digits --images 600 --steps 32 --arms sync,1,8
    python benchmarks/steps_a_round.py --csv docs/results/steps.csv --arms ""      # the table alone

All arms are `covey` with the same start and the same closing, and as many steps on as many images
in between: `none` (no training), `pooled` (one machine has all images), `sync` (each step on a
batch of all sites' images, `covey-sync` with gradients in float32), and numbers s: federated
averaging, s steps at each site a round, on its share of such a batch. What was trained on pooled
images is closed over the sites as all else is. NMI and ACC are on the data set's test images, by
the federation's own clusters; linear probe on them, of the encoder's outputs; beside them NMI on
the sites' images. MB: all sites, both ways, of the training.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _table import read_csv, save_csv
from rich.console import Console

from common.config import recipes
from common.config.given import parse_parameters
from common.config.options import Plan
from common.record.reader import read_run
from deploy.engines.simulate import simulate
from deploy.evaluation.pooled import Asked, evaluate_run
from server.run.folder import Checkpoint, RunFolder

SETTING = ("dataset", "images", "sites", "encoder", "steps", "batch", "objective", "with")
KEY = (*SETTING, "partition", "arm", "seed")
FIGURES = ("rounds", "exchanges", "MB", "NMI", "ACC", "linear", "own NMI", "loss", "CPU s")
SPOTS = ("arm", "partition", "seed", *FIGURES)
SCORES = ("NMI", "ACC", "linear", "own NMI")
HEAD = (
    "images of",
    "images, steps × batch",
    "partition",
    "arm",
    "seeds",
    "exchanges",
    "MB",
    *SCORES,
)
Row = dict[str, Any]


def main(
    dataset: str = "cifar10",
    images: int = 5000,
    sites: int = 10,
    partitions: Annotated[str, typer.Option(help="with | between")] = "p-skew(1.0)|iid",
    seeds: str = "0",
    steps: Annotated[int, typer.Option(help="of training, in every arm")] = 192,
    batch: Annotated[int, typer.Option(help="images of all sites in a step")] = 256,
    encoder: str = "small-convnet",
    objective: str = "spectral-contrastive",
    options: Annotated[str, typer.Option(help="more of each run, as 'name=value name=value'")] = "",
    arms: str = "none,pooled,sync,1,2,4,8,16",
    threads: int = 1,
    csv: Annotated[Path | None, typer.Option(help="rows are added, and not made again")] = None,
) -> None:
    """Train each arm in one process, print a row as soon as it is there, then the table."""
    torch.set_num_threads(threads)
    setting = dict(zip(
        SETTING, (dataset, images, sites, encoder, steps, batch, objective, options), strict=True
    ))  # fmt: skip
    rows = read_csv(csv) if csv else []
    for seed in seeds.split(","):
        for partition in partitions.split("|"):
            for arm in filter(None, arms.split(",")):
                key = {**setting, "partition": partition, "arm": arm, "seed": int(seed)}
                if any(all(row[name] == str(key[name]) for name in KEY) for row in rows):
                    continue
                row = {name: str(value) for name, value in (key | measured(key)).items()}
                print({name: row[name] for name in SPOTS}, flush=True)
                rows = [*(read_csv(csv) if csv else rows), row]
                if csv:
                    save_csv(csv, (*KEY, *FIGURES), sorted(rows, key=lambda r: [r[k] for k in KEY]))
    print("\n".join(table(rows)))


def table(rows: Sequence[Row]) -> Iterator[str]:
    """As Markdown: mean ± standard deviation (n - 1) over the seeds of each setting and arm."""
    yield f"| {' | '.join(HEAD)} |"
    yield f"|{'---|' * len(HEAD)}"
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in KEY if name != "seed"), []).append(row)
    for key, runs in sorted(groups.items(), key=lambda item: place(item[1][0])):
        of = dict(zip(KEY, key, strict=False))
        what = ", ".join(filter(None, (of["arm"], of["objective"], of["with"])))
        scale = f"{int(of['images']):,}, {of['steps']} × {of['batch']}"
        spread = [scores([float(run[name]) for run in runs]) for name in SCORES]
        cells = (of["dataset"], scale, of["partition"], what, len(runs), runs[0]["exchanges"])
        yield f"| {' | '.join(map(str, (*cells, runs[0]['MB'], *spread)))} |"


def place(row: Row) -> tuple[Any, ...]:
    """By setting, then from no exchange to the most."""
    order = (row["arm"] != "none", row["arm"] == "pooled", int(row["exchanges"]), row["objective"])
    return (row["dataset"], int(row["images"]), row["partition"], *order, row["with"])


def scores(values: Sequence[float]) -> str:
    """Mean ± standard deviation; of one run, its value."""
    mean = f"{statistics.fmean(values):.3f}".lstrip("0")
    if len(values) < 2:
        return mean
    return f"{mean}±{statistics.stdev(values):.3f}".replace("±0", "±")


def planned(key: Row) -> Plan:
    """The plan of one arm; the steps of a round have to be a part of all steps."""
    names = ("dataset", "images", "sites", "encoder", "partition", "seed")
    base = {name: key[name] for name in names} | parse_parameters(key["with"])
    base["objective"] = f",{key['objective']},"
    arm, steps, batch = key["arm"], key["steps"], key["batch"]
    if arm == "none":
        return recipes.load("covey").plan(base | {"rounds": "0,0,0"})
    if arm == "sync":
        more = {"rounds": f"0,{steps},0", "batch-size": batch, "schedule": "constant"}
        return recipes.load("covey-sync").plan({"gradients": "float32"} | base | more)
    own = max(2, batch // key["sites"])
    if arm == "pooled":
        own, arm, base["sites"], base["partition"] = batch, str(steps), 1, "iid"
    rounds, left = divmod(steps, int(arm))
    if left:
        raise typer.BadParameter(f"{steps} steps are no whole number of rounds of {arm}")
    more = {"rounds": f"0,{rounds},0", "local-steps": arm, "batch-size": own}
    return recipes.load("covey").plan(base | more)


def measured(key: Row) -> Row:
    """The figures of one arm."""
    began = time.process_time()
    plan = planned(key)
    with tempfile.TemporaryDirectory(prefix="covey-") as folder:
        run = Path(folder) / "run"
        simulate(plan, run)
        rounds = read_run(run).rounds
        if key["arm"] == "pooled":
            trained, run = RunFolder(run).checkpoint(), Path(folder) / "closing"
            assert trained is not None
            closing = planned({**key, "arm": "none"})
            RunFolder(run).save(Checkpoint(0, len(plan.stages) - 1, trained.groups))
            simulate(closing, run)
        spent = time.process_time() - began
        record = read_run(run)
        asked = Asked(protocols=("clustering", "linear"), device="cpu")
        figures = evaluate_run(run, asked, Console(quiet=True))
    alone = key["arm"] == "pooled"
    return {
        "rounds": 0 if alone else len(rounds),
        "exchanges": 0 if alone else 2 * len(rounds),
        "MB": 0 if alone else round(sum(each.bytes_down + each.bytes_up for each in rounds) / 1e6),
        "NMI": round(figures["centroids_held_out"]["nmi"], 4),
        "ACC": round(figures["centroids_held_out"]["acc"], 4),
        "linear": round(figures["linear"], 4),
        "own NMI": round(record.stages[-1].figures["nmi"], 4),
        "loss": round(rounds[-1].loss["loss"], 3) if rounds and not alone else "–",
        "CPU s": round(spent),
    }


if __name__ == "__main__":
    typer.run(main)
