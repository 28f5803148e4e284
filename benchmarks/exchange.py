"""What an exchange costs: Covey's processes against plain Flower's and against no processes at all.

    python benchmarks/exchange.py
    python benchmarks/exchange.py --only big --json big.json

All of a figure's sides are measured in this one run, on local federations of real processes with
TLS and authentication; ratios are of medians.

- ratio: seconds of a round of `fedsimclr` with next to nothing to train, of those of a plain Flower
  app (`benchmarks/plain_flower/`: FedAvg, train and evaluate, as Flower's templates do) with the
  same model and images on Flower's own SuperLink, SuperNodes and SuperExecs.
- empty_s: seconds of an exchange whose messages are empty, with four sites.
- idle: of a site that waits for a run, when it has drawn its own page of the last one: its share
  of a CPU core, and its memory in MB (connection, trainer and guardian; what processes share is
  divided among them).
- big: seconds of an exchange of 45 MB with two sites, of those with Flower's own processes and
  calls: so a site of version 0.1 had it, which handed each message on to its trainer besides.
- run_over_simulate: seconds of `covey run` until the result is told, of those of `covey simulate`
  with the same recipe and options, each with one thread of torch; their encoders are equal to the
  bit. Beside it, the CPU seconds of both.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import _processes
import numpy as np
import typer
from _table import save_json, show

from client.gallery import behind
from common.config import recipes
from common.data.planned import planned_data, planned_partition
from common.record.reader import read_run
from deploy.engines.federation import LocalFederation, SiteSpec
from deploy.engines.run_locally import local_site
from deploy.engines.runs import run_config
from deploy.flower import commands
from deploy.flower.bundle import write_bundle

APPS = Path(__file__).resolve().parent / "plain_flower"
PATHS = os.pathsep.join([str(APPS), str(APPS.parents[1])])
OPEN = (sys.executable, str(APPS / "open_connection.py"))
ECHO = (sys.executable, str(APPS / "echo_trainer.py"))
BIG_SITES = 2
TOLD = "report: "  # the line of a command with which its result has been told


class Figures(dict[str, float]):
    """What has been measured so far: told at once."""

    def __setitem__(self, name: str, value: float) -> None:
        super().__setitem__(name, value)
        print(f"{name}: {value:.4g}", flush=True)


def main(
    sites: int = 4,
    rounds: int = 5,
    images: int = 400,
    megabytes: Annotated[float, typer.Option(help="of the big exchange")] = 45.0,
    idle: Annotated[float, typer.Option(help="seconds for which idle sites are watched")] = 60.0,
    recipe: Annotated[str, typer.Option(help="of `covey run` and `covey simulate`")] = "covey",
    only: Annotated[list[str] | None, typer.Option(help="ratio, big, run_over_simulate")] = None,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
) -> None:
    """Measure, and print one line for each figure."""
    figures = Figures()
    parts: dict[str, Callable[[Path], None]] = {
        "ratio": lambda folder: rounds_of_nothing(folder, figures, sites, rounds, images, idle),
        "big": lambda folder: big_exchanges(folder, figures, rounds, round(megabytes * 1e6)),
        "run_over_simulate": lambda folder: with_and_without_processes(folder, figures, recipe),
    }
    for name in only or parts:
        with tempfile.TemporaryDirectory(prefix="cb-") as private:
            parts[name](Path(private))
        if json:
            save_json(json, figures)
    show(
        f"Exchanges, {sites} sites, {os.cpu_count()} CPU cores",
        ("figure", "value"),
        list(figures.items()),
    )


def rounds_of_nothing(
    folder: Path, figures: Figures, sites: int, rounds: int, images: int, idle: float
) -> None:
    """A round with next to nothing to train, and an empty exchange: Covey and plain Flower."""
    options = {
        "dataset": "digits",
        "images": str(images),
        "sites": str(sites),
        "partition": "iid",
        "rounds": str(rounds),
        "local-epochs": "1",
    }
    plan = recipes.load("fedsimclr").plan(options)
    data = planned_data(plan)
    partition = planned_partition(plan, data)
    partition.save(folder / "partition.json")
    specs = [local_site(plan, folder, index) for index in range(sites)]
    with started(folder / "covey", specs) as federation:
        place = folder / "fedsimclr"
        config = run_config("fedsimclr", options, **{"run-folder": str(place), "engine": "x"})
        place.mkdir()
        carry_through(federation, write_bundle(place / "bundle", config))
        figures["ours_s"] = between(ends_of_rounds(place))
        while len(list(folder.rglob(behind.FILE))) < sites:  # the pages that sites draw afterwards
            time.sleep(1)
        watch(federation, figures, sites, idle)
    with started(folder / "empty", echoes(sites)) as federation:
        figures["empty_s"] = echoed(federation, folder / "echo", 4 * rounds, 0)
    for spec, part in zip(specs, partition.sites, strict=True):
        np.save(folder / f"{spec.name}.npy", data.images[part])
    stock = [
        SiteSpec(s.name, stock=True, node_config={"data": str(folder / f"{s.name}.npy")})
        for s in specs
    ]
    with started(folder / "plain", stock) as federation:
        stamps = folder / "plain-stamps"
        config = {"sites": sites, "rounds": rounds, "evaluate": 1.0, "stamps": str(stamps)}
        bundle = write_bundle(folder / "plain-bundle", config, "plain_server", "plain_client")
        carry_through(federation, bundle)
        figures["plain_s"] = between(list(map(float, stamps.read_text().split())))
    figures["ratio"] = figures["ours_s"] / figures["plain_s"]


def big_exchanges(folder: Path, figures: Figures, rounds: int, size: int) -> None:
    """Exchanges of a large model: whole messages, and Flower's own processes and calls."""
    sides = {
        "ours": echoes(BIG_SITES),
        "flower": [SiteSpec(site.name, stock=True) for site in echoes(BIG_SITES)],
    }
    for side, specs in sides.items():
        with started(folder / side, specs) as federation:
            figures[f"big_{side}_s"] = echoed(federation, folder / f"{side}-run", rounds, size)
    figures["big"] = figures["big_ours_s"] / figures["big_flower_s"]


def with_and_without_processes(folder: Path, figures: Figures, recipe: str) -> None:
    """`covey run` against `covey simulate`."""
    for command in ("run", "simulate"):
        place = folder / command
        line = [
            sys.executable,
            "-m",
            "deploy.cli.main",
            command,
            recipe,
            "--run-folder",
            str(place),
        ]
        variables = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": PATHS,
            "PYTHONUNBUFFERED": "1",
        }
        began, before = time.monotonic(), _cpu_of_children()
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=variables) as process:
            for said in process.stdout or ():
                if said.startswith(TOLD):
                    figures[f"{command}_s"] = time.monotonic() - began
        if process.returncode:
            raise SystemExit(f"covey {command} ended with {process.returncode}")
        figures[f"{command}_cpu_s"] = _cpu_of_children() - before
    encoders = [
        (folder / place / "encoder.safetensors").read_bytes() for place in ("run", "simulate")
    ]
    if encoders[0] != encoders[1]:
        raise SystemExit("the encoders of `covey run` and `covey simulate` differ")
    figures["run_over_simulate"] = figures["run_s"] / figures["simulate_s"]


def _cpu_of_children() -> float:
    """CPU seconds of the processes that have ended, and of those that they have waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def started(folder: Path, specs: Sequence[SiteSpec]) -> Iterator[LocalFederation]:
    """A federation of these sites, at Flower's own SuperLink if they are Flower's own."""
    stock = any(spec.stock for spec in specs)
    changes = {"SITE": OPEN, **({"SUPERLINK": ("flower-superlink",)} if stock else {})}
    with (
        patch.multiple(commands, **changes),
        LocalFederation(folder / "state", folder / "logs", extra={"PYTHONPATH": PATHS}) as made,
    ):
        made.start(specs, lambda text: print(text, flush=True))
        yield made


def echoes(sites: int) -> list[SiteSpec]:
    """Sites that have nothing to do."""
    return [SiteSpec(f"site-{index}", ECHO) for index in range(sites)]


def between(times: list[float]) -> float:
    """The median time between two of these."""
    return statistics.median(after - before for before, after in pairwise(times))


def echoed(federation: LocalFederation, place: Path, rounds: int, size: int) -> float:
    """Median seconds of the exchanges of `size` bytes but the first."""
    stamps = place / "stamps"
    place.mkdir()
    config = {"rounds": rounds + 1, "bytes": size, "stamps": str(stamps)}
    carry_through(federation, write_bundle(place / "bundle", config, "echo_server", "echo_client"))
    times = [tuple(map(float, line.split())) for line in stamps.read_text().splitlines()]
    return statistics.median(ended - began for began, ended in times[1:])


def carry_through(federation: LocalFederation, bundle: Path) -> None:
    """Run an app to its end."""
    run_id = federation.submit(bundle)
    while not (status := federation.status(run_id))[0].startswith("finished"):
        time.sleep(1)
    if status[0] != "finished:completed":
        raise SystemExit(f"{bundle}: {' '.join(status)}")


def ends_of_rounds(folder: Path) -> list[float]:
    """When each round of a Covey run ended."""
    return [event.time for event in read_run(folder).rounds]


def watch(federation: LocalFederation, figures: Figures, sites: int, seconds: float) -> None:
    """An idle site's share of a core, and its memory."""
    guardians = federation.supervisor.guardians()
    mine = [leader for name, leader in guardians.items() if name.startswith("site-")]
    before, began = sum(map(_processes.cpu, mine)), time.monotonic()
    time.sleep(seconds)
    spent, took = sum(map(_processes.cpu, mine)) - before, time.monotonic() - began
    figures["idle_cpu_share"] = spent / took / sites
    figures["memory_per_site_MB"] = sum(map(_processes.memory, mine)) / sites


if __name__ == "__main__":
    typer.run(main)
