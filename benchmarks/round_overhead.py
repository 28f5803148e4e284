"""Seconds per round when there is next to nothing to train: Covey against a plain Flower app.

    python benchmarks/round_overhead.py

One federation of real processes (TLS, authentication), in turn on it: Covey's `fedsimclr`, a plain
Flower app (`benchmarks/plain_flower/`: FedAvg, the model's state dict, train and evaluate, as
Flower's templates do) with the same model and images, the same without evaluation, and an app whose
messages are empty: the floor. A round's seconds are the time between the ends of two consecutive
rounds; the figures are medians.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from _table import save_json, show

from common.config import recipes
from common.config.options import Plan
from common.data.planned import planned_data, planned_partition
from common.record.reader import read_run
from deploy.cli.run_options import run_config
from deploy.engines.federation import LocalFederation, SiteSpec
from deploy.engines.run_locally import local_site
from deploy.flower.bundle import write_bundle

COVEY, PLAIN, TRAIN_ONLY, FLOOR = (
    "Covey",
    "plain Flower",
    "plain, no evaluation",
    "floor: empty messages",
)
APPS = Path(__file__).resolve().parent / "plain_flower"
SUPERNODE_POLL = 3.0  # seconds: fixed in flwr 1.41, between two looks of a SuperNode for messages


def main(
    sites: int = 4,
    rounds: int = 4,
    turns: int = 2,
    images: int = 400,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
) -> None:
    """Measure all four in turn, `turns` times, and print the table."""
    options = {
        "dataset": "digits",
        "images": str(images),
        "sites": str(sites),
        "partition": "iid",
        "rounds": str(rounds),
        "local-epochs": "1",
    }
    seconds: dict[str, list[float]] = {COVEY: [], PLAIN: [], TRAIN_ONLY: [], FLOOR: []}
    with tempfile.TemporaryDirectory(prefix="cb-") as private:
        folder = Path(private)
        specs = make_sites(recipes.load("fedsimclr").plan(options), folder)
        path = os.pathsep.join([str(APPS), str(APPS.parents[1])])
        logs, extra = folder / "logs", {"PYTHONPATH": path}
        with LocalFederation(folder / "federation", logs, extra=extra) as federation:
            federation.start(specs, print)
            for turn in range(turns):
                for number, (name, times) in enumerate(seconds.items()):
                    place = folder / f"run-{turn}-{number}"
                    times.extend(measure(federation, name, place, options))
                    print(f"turn {turn + 1}, {name}: {statistics.median(times):.1f} s", flush=True)
    report(seconds, sites, rounds * turns, json)


def make_sites(plan: Plan, folder: Path) -> list[SiteSpec]:
    """Covey's sites, whose node configuration names the same images as a file, too."""
    data = planned_data(plan)
    partition = planned_partition(plan, data)
    partition.save(folder / "partition.json")
    specs = []
    for index, part in enumerate(partition.sites):
        spec = local_site(plan, folder, folder / "s", index)
        images = folder / f"{spec.name}.npy"
        np.save(images, data.images[part])
        config = {**spec.node_config, "data": str(images)}
        specs.append(SiteSpec(spec.name, spec.trainer_command, config))
    return specs


def measure(
    federation: LocalFederation, name: str, place: Path, options: Mapping[str, str]
) -> list[float]:
    """Run one app to its end; seconds between the ends of its rounds."""
    place.mkdir()
    stamps = place / "stamps"
    if name == COVEY:
        engine = {"run-folder": str(place), "engine": "processes"}
        bundle = write_bundle(place / "bundle", run_config("fedsimclr", options, **engine))
    else:
        app = "echo" if name == FLOOR else "plain"
        config = {
            "sites": int(options["sites"]),
            "rounds": int(options["rounds"]),
            "evaluate": float(name == PLAIN),
            "stamps": str(stamps),
        }
        bundle = write_bundle(place / "bundle", config, f"{app}_server", f"{app}_client")
    run_id = federation.submit(bundle)
    while not (status := federation.status(run_id))[0].startswith("finished"):
        time.sleep(1)
    if status[0] != "finished:completed":
        raise SystemExit(f"{name}: {' '.join(status)}")
    ends = ends_of_rounds(place) if name == COVEY else map(float, stamps.read_text().split())
    return [after - before for before, after in pairwise(ends)]


def ends_of_rounds(folder: Path) -> list[float]:
    """When each round of a Covey run ended."""
    return [event.time for event in read_run(folder).rounds]


def report(seconds: Mapping[str, list[float]], sites: int, rounds: int, json: Path | None) -> None:
    """The table and the file."""
    median = {name: statistics.median(times) for name, times in seconds.items()}
    show(
        f"Seconds per round, {sites} sites, {rounds} rounds each, {os.cpu_count()} CPU cores",
        ("", "s/round", "fastest", "slowest", "of plain", "messages"),
        [
            (
                name,
                median[name],
                min(times),
                max(times),
                f"{median[name] / median[PLAIN]:.2f}",
                2 if name == PLAIN else 1,
            )
            for name, times in seconds.items()
        ],
    )
    print(f"A SuperNode looks for a message every {SUPERNODE_POLL:g} s; that is fixed in Flower.")
    if json:
        figures = {
            "ratio": median[COVEY] / median[PLAIN],
            "ratio_to_train_only": median[COVEY] / median[TRAIN_ONLY],
            "ours_s": median[COVEY],
            "plain_s": median[PLAIN],
            "plain_train_only_s": median[TRAIN_ONLY],
            "floor_s": median[FLOOR],
            "sites": sites,
            "rounds": rounds,
        }
        save_json(json, figures)


if __name__ == "__main__":
    typer.run(main)
