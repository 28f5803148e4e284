"""Clustering quality of a recipe: federated (iid and skewed) against k-means on pixels and the
centralised run of the same recipe.

    python benchmarks/quality.py --recipe fedmcc --seeds 0,1,2

Runs go to `--runs` and are resumed or skipped when they are there already. All use the in-process
engine, the same images (drawn by seed), encoder, steps and evaluator; the centralised run is the
same recipe with one site that holds everything.
"""

import statistics
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _table import save_json, show

from client.statistics import measure
from common import metrics
from common.clustering.kmeans import kmeans
from common.config import recipes
from common.config.options import Plan
from common.data import load
from common.record.reader import read_run
from common.utils.seeds import generator
from deploy.engines.simulate import simulate

SCORES = ("acc", "nmi", "ari")
COLUMNS = (*SCORES, "knn", "linear")


def main(
    recipe: str = "fedmcc",
    dataset: str = "fashion-mnist",
    images: int = 10_000,
    sites: int = 10,
    partitions: str = "iid,p-skew(0.75)",
    rounds: str = "10,5",
    local_epochs: int = 1,
    seeds: str = "0,1,2",
    precision: str = "auto",
    threads: int = 1,
    runs: Annotated[Path, typer.Option(help="where the runs' folders go")] = Path("runs/quality"),
    json: Annotated[Path | None, typer.Option(help="also write the rows to this file")] = None,
) -> None:
    """Run what is missing, then print the table."""
    torch.set_num_threads(threads)
    common = {
        "dataset": dataset,
        "images": images,
        "rounds": rounds,
        "local-epochs": local_epochs,
        "precision": precision,
    }
    rows: list[dict[str, Any]] = []
    for seed in (int(s) for s in seeds.split(",")):
        rows.append(
            {
                "seed": seed,
                "run": "k-means on pixels",
                "stage": "-",
                **on_pixels(dataset, images, seed),
            }
        )
        cases = {"centralised": {"sites": 1, "partition": "iid"}} | {
            partition: {"sites": sites, "partition": partition}
            for partition in partitions.split(",")
        }
        for name, options in cases.items():
            plan = recipes.load(recipe).plan({**common, **options, "seed": seed})
            folder = runs / f"{recipe}-{dataset}-{images}-{name}-{sites}-{rounds}-{seed}"
            rows += finished_run(plan, folder, name)
            show_rows(rows, recipe, dataset, images, sites)
            if json:
                save_json(json, rows)


def finished_run(plan: Plan, folder: Path, name: str) -> list[dict[str, Any]]:
    """The run's stages as rows, after doing whatever of it is not done yet."""
    if not (folder / "encoder.safetensors").exists():
        simulate(plan, folder)
    return [
        {
            "seed": plan.seed,
            "run": name,
            "stage": stage.stage_name,
            **{key: stage.figures[key] for key in COLUMNS},
        }
        for stage in read_run(folder).stages
    ]


def on_pixels(dataset: str, images: int, seed: int) -> dict[str, float]:
    """k-means on raw pixels of the pooled images: what no learning gives."""
    data = load(dataset, images=images, seed=seed)
    assert data.labels is not None
    points = torch.from_numpy(data.images).flatten(1).float() / 255
    k = len(data.classes)
    found = kmeans(points, k, restarts=10, generator=generator("cpu", seed, "pixels"))
    table = measure.count_table(found.labels, torch.from_numpy(data.labels), k, k)
    scores = metrics.clustering_scores(table)
    return {key: scores[key] for key in SCORES}


def show_rows(
    rows: list[dict[str, Any]], recipe: str, dataset: str, images: int, sites: int
) -> None:
    """One line per run and stage."""
    names = list(dict.fromkeys(row["run"] for row in rows))
    lines = []
    for name in names:
        stages = dict.fromkeys(row["stage"] for row in rows if row["run"] == name)
        for number, stage in enumerate(stages, start=1):
            same = [row for row in rows if (row["run"], row["stage"]) == (name, stage)]
            cells = [spread([row[k] for row in same if k in row]) for k in COLUMNS]
            label = name if len(stages) == 1 else f"{name}, stage {number}"
            lines.append((label, len(same), *cells))
    show(
        f"{recipe} on {dataset}, {images} images, {sites} sites: mean±std",
        ("run", "seeds", *COLUMNS),
        lines,
    )


def spread(values: list[float]) -> str:
    """Mean±std as in .612±.013, or .612 of a single value; a dash for nothing."""
    if not values:
        return "–"
    shown = [statistics.mean(values)] + ([statistics.stdev(values)] if len(values) > 1 else [])
    return "±".join(f"{value:.3f}".removeprefix("0") for value in shown)


if __name__ == "__main__":
    typer.run(main)
