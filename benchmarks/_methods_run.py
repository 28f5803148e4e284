"""One run of `methods.py`: its plan, its folder, and the figures that become a row of the CSV."""

import contextlib
import hashlib
import json
import shutil
import subprocess
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from client import measure
from client.training import batches
from common import metrics, recipes
from common.data import ImageData, load, load_test
from common.data.images import draw_order
from common.data.planned import planned_data
from common.files import write_atomic
from common.kmeans import kmeans
from common.options import Plan
from common.seeds import generator
from deploy.simulate import simulate
from deploy.trained import Trained, load_trained
from server.measurements import RIDGE
from server.report import RunRecord, read_run

ENTRIES = {  # that are no recipes: which recipe they run
    "centralised": "fedsimclr",
    "standalone": "fedsimclr",
    "pixels": "fedkmeans-pixels",
}
FIGURES = "figures.json"
NOT_NEEDED = ("checkpoint.safetensors", "events", "sites", "report.html")  # of a finished run
RESTARTS = 10  # of k-means on the pooled embeddings
HELD_OUT = 0.2  # of a data set without a test split whose images are all in the run
PATIENCE = 0.01  # seconds that a standalone run waits for the sites that do not come

Row = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """What all runs of a matrix have in common."""

    images: int
    sites: int
    rounds: int
    local_epochs: int
    batch_size: int
    encoder: str
    participation: float
    held_out: int


@dataclass(frozen=True)
class Cell:
    """One run of the matrix."""

    scale: Scale
    recipe: str
    dataset: str
    partition: str
    seed: int

    @classmethod
    def of(cls, scale: Scale, recipe: str, dataset: str, partition: str, seed: int) -> "Cell":
        """The cell of an entry; the centralised run is the same for every partition."""
        partition = "iid" if recipe == "centralised" else partition
        return cls(scale, recipe, dataset, partition, seed)

    @staticmethod
    def recipe_of(entry: str) -> str:
        """The recipe that an entry runs."""
        return ENTRIES.get(entry, entry)

    @property
    def title(self) -> str:
        """What the progress line calls it."""
        return f"{self.recipe} {self.dataset} {self.partition} seed {self.seed}"

    @property
    def plan(self) -> Plan:
        """Equal rounds, epochs and batches for every recipe; the rest is the recipe's own."""
        scale = self.scale
        recipe = recipes.load(self.recipe_of(self.recipe))
        own = [stage["rounds"] for stage in recipe.document["stages"]]
        options: dict[str, Any] = {
            "dataset": self.dataset,
            "images": scale.images,
            "sites": scale.sites,
            "partition": self.partition,
            "participation": scale.participation,
            "seed": self.seed,
            "rounds": ",".join(map(str, share_rounds(own, scale.rounds))),
            "local-epochs": scale.local_epochs,
            "batch-size": scale.batch_size,
        }
        if "encoder" not in recipe.document:  # one that sets it is about that encoder
            options["encoder"] = scale.encoder
        if self.recipe == "centralised":
            options |= {"sites": 1, "participation": 1.0}
        if self.recipe == "standalone":
            # Sites of one process answer within any deadline.
            options |= {"alone": 1 + self.seed % scale.sites, "participation": 1.0}
            options |= {"quorum": 1 / scale.sites, "deadline": PATIENCE}
        return recipe.plan(options)

    def options(self) -> list[str]:
        """The options of `methods.py` for this cell alone."""
        scale = self.scale
        given = {
            "recipes": self.recipe,
            "datasets": self.dataset,
            "images": scale.images,
            "sites": scale.sites,
            "partitions": self.partition,
            "seeds": self.seed,
            "rounds": scale.rounds,
            "local-epochs": scale.local_epochs,
            "batch-size": scale.batch_size,
            "encoder": scale.encoder,
            "participation": scale.participation,
            "held-out": scale.held_out,
        }
        return [text for name, value in given.items() for text in (f"--{name}", str(value))]

    def folder(self, runs: Path) -> Path:
        """Where the run is: the hash is over every setting that is not a default, so that two
        settings never share a folder, and a new option of Covey leaves the names as they are."""
        settings = self.plan.model_dump_json(by_alias=True, exclude_defaults=True)
        text = f"{self.recipe}/{self.scale.held_out}/{settings}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        partition = self.partition.replace("(", "-").replace(")", "")
        dataset = Path(self.dataset).stem
        return runs / f"{self.recipe}-{dataset}-{partition}-seed-{self.seed}-{digest}"


def share_rounds(own: list[int], rounds: int) -> list[int]:
    """`rounds` over a recipe's stages in the proportion of the recipe's `own` rounds, in whole
    numbers: 15 over [8, 4] is [10, 5]. A stage of 0 rounds stays one; every other has at least one
    round where there are enough."""
    total = sum(own)
    if total == 0:
        return [0] * len(own)
    exact = [rounds * part / total for part in own]
    enough = rounds >= sum(part > 0 for part in own)
    shares = [max(int(part), int(enough and part > 0)) for part in exact]
    while sum(shares) < rounds:
        shares[max(range(len(own)), key=lambda i: exact[i] - shares[i])] += 1
    while sum(shares) > rounds:  # a stage's one round is taken from who has most too many
        several = [i for i in range(len(own)) if shares[i] > 1]
        shares[max(several, key=lambda i: shares[i] - exact[i])] -= 1
    return shares


def finished_figures(cell: Cell, runs: Path) -> Row | None:
    """The row of a run that has finished; None where it has not."""
    path = cell.folder(runs) / FIGURES
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def run_cell(cell: Cell, runs: Path) -> Row | str:
    """Do what is not done yet of one run: its row, or in one line why there is none."""
    try:
        folder = cell.folder(runs)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "run.log").open("a", encoding="utf-8") as log:
            try:
                with contextlib.redirect_stdout(log):
                    return _finish(cell, folder)
            except Exception:
                traceback.print_exc(file=log)
                raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return f"{type(error).__name__}: {first}"


def _finish(cell: Cell, folder: Path) -> Row:
    plan, commit = cell.plan, current_commit()
    if _earlier(folder).get("status") != "finished":
        if _is_of_another_plan(folder, plan):  # cut, and then a default of Covey changed
            shutil.rmtree(folder)
        simulate(plan, folder)
    row = {"recipe": cell.recipe, **figures(plan, folder, cell.scale.held_out), "commit": commit}
    write_atomic(folder / FIGURES, (json.dumps(row, indent=2) + "\n").encode())
    for name in NOT_NEEDED:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return row


def _is_of_another_plan(folder: Path, plan: Plan) -> bool:
    earlier = _earlier(folder)
    if not earlier:
        return False
    now = plan.model_dump(mode="json", by_alias=True)
    return bool({**earlier["plan"], "clusters": 0} != {**now, "clusters": 0})  # settled by the run


def _earlier(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def current_commit() -> str:
    """The checkout's commit, with "-dirty" where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def figures(plan: Plan, folder: Path, held_out: int) -> Row:
    """The row of a finished run, but for its entry and its commit."""
    record, trained = read_run(folder), load_trained(folder)
    data = planned_data(plan)
    pooled = pooled_figures(plan, trained, data, held_out)
    last = record.stages[-1]
    # Alone, a site's own scores are on its own images only: it is judged on everybody's.
    scores = pooled if plan.alone else last
    events = [*record.rounds, *record.stages]
    row = {
        "dataset": plan.dataset,
        "images": len(data.images),
        "partition": plan.partition,
        "sites": plan.sites,
        "participation": plan.participation,
        "seed": plan.seed,
        "rounds": plan.rounds,
        "local_steps": local_steps(record, plan),
        "encoder": plan.encoder,
        **{name: scores[name] for name in ("acc", "nmi", "ari", "purity", "std")},
        **{name: pooled[name] for name in ("knn", "linear")},
        "pooled_acc": pooled["acc"],
        "pooled_nmi": pooled["nmi"],
        "bytes": sum(e["bytes_down"] + e["bytes_up"] for e in events),
        # Of a phase the mean over the sites is noted.
        "seconds": sum(e["seconds"].get("train", 0) * len(e["answered"]) for e in record.rounds),
    }
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}


def local_steps(record: RunRecord, plan: Plan) -> int:
    """Optimiser steps in the whole run, mean over the sites that take part."""
    sizes = {name: site["examples"] for name, site in record.run["sites"].items()}
    steps = 0
    for event in record.rounds:
        stage = plan.stages[event["stage"]]
        for site in event["answered"]:
            n = sizes[site]
            kept = n - min(max(1, round(n * plan.evaluation_share)), n - 2)  # as `Trainer.split`
            steps += stage.local_epochs * batches(kept, stage.batch_size)
    return round(steps / len(sizes))


def pooled_figures(
    plan: Plan, trained: Trained, data: ImageData, held_out: int
) -> dict[str, float]:
    """With all images in one place: scores of k-means on the last stage's embeddings and their
    spread; kNN and linear probe of encoder outputs, fitted on the run's images and scored on
    `held_out` others."""
    trained.estimate_statistics(data)
    fitted, test = fitted_and_held_out(plan, data, held_out)
    h, labels = trained.embed(fitted), _labels(fitted, trained)
    h_test, test_labels = trained.embed(test), _labels(test, trained)
    classes = len(data.classes)
    clusters = plan.clusters or classes
    space = plan.stages[-1].embedding
    points, truth = trained.embed(data, space), _labels(data, trained)
    chance = generator(trained.device, plan.seed, "pooled")
    found = kmeans(points, clusters, restarts=RESTARTS, spherical=True, generator=chance)
    table = measure.count_table(found.labels, truth, clusters, classes)
    moments = measure.moments(h, labels, classes, min_count=1)
    probe = metrics.solve_probe(moments["gram"], moments["cross"], RIDGE).astype("float32")
    std = points.double().std(dim=0, correction=0).cpu().numpy()
    return {
        **metrics.clustering_scores(table),
        "std": metrics.healthy_std(std),
        "knn": measure.knn_correct(h, labels, h_test, test_labels) / len(h_test),
        "linear": measure.probe_correct(h_test, test_labels, probe) / len(h_test),
    }


def fitted_and_held_out(plan: Plan, data: ImageData, held_out: int) -> tuple[ImageData, ImageData]:
    """The run's images, and `held_out` others drawn by seed: of the test split, else of the images
    that the run did not draw; where there are none of either, a fifth of the run's own, which no
    longer counts among the fitted ones (sites have trained on those, without labels)."""
    test = load_test(plan.dataset, side=plan.side)
    if test is not None:
        order = draw_order(len(test.images), 0, plan.seed, plan.dataset)
        return data, test.subset(order[:held_out])
    whole = load(plan.dataset, side=plan.side)
    order = draw_order(len(whole.images), plan.images, plan.seed, plan.dataset)
    if 0 < plan.images < len(order):
        return data, whole.subset(order[plan.images :][:held_out])
    held = round(len(order) * HELD_OUT)
    return whole.subset(order[held:]), whole.subset(order[:held][:held_out])


def _labels(data: ImageData, trained: Trained) -> Tensor:
    return torch.from_numpy(data.labels).to(trained.device)
