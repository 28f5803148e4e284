"""One run of `methods.py`: its plan, its folder, and the figures that become a row of the CSV."""

import contextlib
import hashlib
import json
import math
import os
import platform
import shutil
import subprocess
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _methods_figures import Row, figures

from common.config import recipes
from common.config.options import Plan
from common.record.reader import has_run, read_settings
from common.stages import settle_parameters
from common.utils.errors import UserError
from common.utils.files import write_atomic
from deploy.engines.simulate import simulate

Options = dict[str, Any]
POOLED: Options = {"sites": 1, "participation": 1.0}
REFERENCES: dict[str, tuple[str, Options]] = {  # the recipe that each runs, with which options
    "centralised": ("fedsimclr", POOLED),
    "standalone": ("fedsimclr", {"participation": 1.0}),
    "pixels": ("fedkmeans-pixels", {}),
}
UNSTARTED: Options = {"solver": "frozen,,landmark-spectral", "normalisation": "group"}
PROJECTED: Options = UNSTARTED | {"solver": "frozen,,projection"}  # no landmarks either
SPECTRAL: Options = {"objective": "spectral-contrastive", "normalisation": "group"}
CONTROLS: dict[str, tuple[str, Options]] = {  # which part of `covey` does what
    "centralised-spectral": ("fedsimclr", POOLED | SPECTRAL),
    "centralised-covey": ("covey", POOLED),
    "centralised-covey-projection": ("covey", POOLED | PROJECTED),
    "covey-landmarks": ("covey", UNSTARTED),
    "covey-projection": ("covey", PROJECTED),
    "fedsimclr-landmarks": ("fedsimclr-projection", {"solver": ",landmark-spectral"}),
    "covey-projection+batch": ("covey", PROJECTED | {"normalisation": "batch"}),
    "fedsimclr+group": ("fedsimclr", {"normalisation": "group"}),
    "fedsimclr-projection+group": ("fedsimclr-projection", {"normalisation": "group"}),
    "orchestra+group": ("orchestra", {"normalisation": "group"}),
}
ENTRIES = REFERENCES | CONTROLS
FIGURES = "figures.json"
NOT_NEEDED = ("checkpoint.safetensors", "events", "sites", "report.html")  # of a finished run


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
        partition = "iid" if is_centralised(recipe) else partition
        return cls(scale, recipe, dataset, partition, seed)

    @staticmethod
    def recipe_of(entry: str) -> str:
        """The recipe that an entry runs."""
        return ENTRIES[entry][0] if entry in ENTRIES else entry

    @property
    def title(self) -> str:
        """What the progress line calls it."""
        return f"{self.recipe} {self.dataset} {self.partition} seed {self.seed}"

    @property
    def plan(self) -> Plan:
        """Equal rounds, epochs and batches for every recipe; the rest is the recipe's own. Where a
        round is one step on a batch of all sites' images, there are as many as a site of the other
        recipes takes, on as many images of each site."""
        scale = self.scale
        recipe = recipes.load(self.recipe_of(self.recipe))
        own = [stage.rounds for stage in recipe.plan().stages]
        if self.is_synchronous and not scale.images:
            raise UserError(
                f"{self.recipe}: --images says how many, or no number of steps is known"
            )
        together = scale.sites if self.is_synchronous else 1
        steps = scale.local_epochs * math.ceil(scale.images / (scale.batch_size * together))
        rounds = scale.rounds * (steps if self.is_synchronous else 1)
        options: Options = {
            "dataset": self.dataset,
            "images": scale.images,
            "sites": scale.sites,
            "partition": self.partition,
            "participation": scale.participation,
            "seed": self.seed,
            "rounds": ",".join(map(str, share_rounds(own, rounds))),
            "local-epochs": scale.local_epochs,
            "batch-size": scale.batch_size * together,
        }
        if "encoder" not in recipe.document:  # one that sets it is about that encoder
            options["encoder"] = scale.encoder
        if self.recipe in ENTRIES:
            options |= ENTRIES[self.recipe][1]
        if self.recipe == "standalone":
            options["alone"] = 1 + self.seed % scale.sites
        return recipe.plan(options)

    @property
    def setting(self) -> Row:
        """Those columns of the run's row that are known before it has run."""
        plan = self.plan
        names = ("dataset", "images", "partition", "sites", "participation", "seed", "rounds")
        values = {name: getattr(plan, name) for name in (*names, "encoder")}
        return {"recipe": self.recipe, **values, "rounds": self.rounds_of(plan)}

    @property
    def is_synchronous(self) -> bool:
        """Whether a round of the recipe is one step of all sites."""
        recipe = recipes.load(self.recipe_of(self.recipe))
        return any(stage.synchronous for stage in recipe.plan().stages)

    def rounds_of(self, plan: Plan) -> int:
        """What the row says: of steps, the rounds in which other recipes take them."""
        return self.scale.rounds if self.is_synchronous else plan.rounds

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
        name = recipes.file_name(self.recipe)
        return runs / f"{name}-{dataset}-{partition}-seed-{self.seed}-{digest}"


def is_centralised(entry: str) -> bool:
    """Whether the entry's run has all images at one site, whatever the partition."""
    return entry in ENTRIES and POOLED.items() <= ENTRIES[entry][1].items()


def is_untrained(row: Row) -> bool:
    """Whether the row is of a recipe that trains, run without its rounds (`--rounds 0`)."""
    try:
        own = recipes.load(Cell.recipe_of(row["recipe"])).plan().rounds
    except UserError:
        return False  # a recipe that was renamed since
    return not row["rounds"] and own > 0


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
    if not has_run(folder) or read_settings(folder).status != "finished":
        if _is_of_another_plan(folder, plan):  # cut, and then a default of Covey changed
            shutil.rmtree(folder)
        simulate(plan, folder)
    row = {"recipe": cell.recipe, **figures(plan, folder, cell.scale.held_out), "commit": commit}
    row["rounds"] = cell.rounds_of(plan)
    write_atomic(folder / FIGURES, (json.dumps(row, indent=2) + "\n").encode())
    for name in NOT_NEEDED:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return row


def _is_of_another_plan(folder: Path, plan: Plan) -> bool:
    if not has_run(folder):
        return False
    earlier = read_settings(folder)
    now = settle_parameters(plan).model_dump(mode="json", by_alias=True)
    return bool({**earlier.plan, "clusters": 0} != {**now, "clusters": 0})  # settled by the run


def current_commit() -> str:
    """The checkout's commit, with "-dirty" where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def machine_in_words() -> str:
    """This machine: processor, memory, GPU, versions."""
    cores = os.cpu_count() or 1
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cores} CPU cores ({_processor()}), {memory:.0f} GiB of memory, {gpu}; "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    )


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
