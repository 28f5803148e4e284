"""Whether anything grows: 2,000 exchanges of one run, with what every process and file takes.

    python benchmarks/soak.py
    python benchmarks/soak.py --exchanges 200 --every 10

A local federation of real processes (TLS, authentication) trains `fedsimclr` on a few images, so
that nearly all of its time is exchanges. Every `--every` seconds are read: the memory of each
process that no other one shares, the database with its log, the objects of messages that the
SuperLink holds and their files, all logs and all temporary files. The
table has a row for each of a few moments, up to the end or to Ctrl-C. Nothing may have grown since
the first hundred exchanges but the run's own record, which has a line for each.
"""

import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import _processes
import typer
from _table import save_json, show

from common.config import recipes
from common.data.planned import planned_data, planned_partition
from common.record.reader import EVENTS, has_run, read_run
from deploy.engines.federation import LocalFederation
from deploy.engines.run_locally import local_site
from deploy.engines.runs import run_config
from deploy.flower.bundle import write_bundle

BEFORE = 100  # exchanges after which nothing may grow any more
MOMENTS = (0.25, 0.5, 0.75, 1.0)  # of the run, that get a row after that one
AROUND = 9  # samples of whose figures a row has the median
Sample = dict[str, float]


def main(
    exchanges: int = 2000,
    sites: int = 4,
    every: Annotated[float, typer.Option(help="seconds between two samples")] = 10.0,
    json: Annotated[Path | None, typer.Option(help="also write all samples here")] = None,
) -> None:
    """Run, sample, and print the table; exit status 1 where something has grown."""
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="cb-") as private, scratch(Path(private)) as temporary:
        folder = Path(private)
        with suppress(KeyboardInterrupt):
            for sample in sampled(folder, temporary, exchanges, sites, every):
                samples.append(sample)
                told = {name: round(value, 1) for name, value in sample.items()}
                print(" ".join(f"{name}={value}" for name, value in told.items()), flush=True)
                if json is not None:
                    save_json(json, samples)
    report(samples, sites)
    worst = {name: growth(samples, name) for name in samples[0] if name.startswith("MB ")}
    grown = [f"{name} by {more:.1f}" for name, more in worst.items() if more > allowed(name)]
    print("grown: " + (", ".join(grown) or "nothing"))
    sys.exit(bool(grown))


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder for all temporary files of the federation's processes."""
    temporary = folder / "tmp"
    temporary.mkdir()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(temporary)
    try:
        yield temporary
    finally:
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)


def sampled(
    folder: Path, temporary: Path, exchanges: int, sites: int, every: float
) -> Iterator[Sample]:
    """The samples of one run with as many rounds as make up `exchanges`."""
    options = {
        "dataset": "digits",
        "images": "200",
        "sites": str(sites),
        "partition": "iid",
        "encoder": "small-convnet",
        "rounds": str(exchanges - 2),  # a stage ends with two more
        "local-epochs": "1",
    }
    plan = recipes.load("fedsimclr").plan(options)
    planned_partition(plan, planned_data(plan)).save(folder / "partition.json")
    specs = [local_site(plan, folder, index) for index in range(sites)]
    run = folder / "run"
    with LocalFederation(folder / "federation", folder / "logs", threads=1) as federation:
        federation.start(specs, print)
        config = run_config("fedsimclr", options, **{"run-folder": str(run), "engine": "processes"})
        run_id = federation.submit(write_bundle(folder / "bundle", config))
        started = time.monotonic()
        while True:
            status = federation.status(run_id)
            yield {
                "minutes": (time.monotonic() - started) / 60,
                "exchanges": float(done(run)),
                **memory(federation),
                "MB database": size(folder / "federation", "superlink.db*"),
                "MB objects": size(folder / "federation", "objects/*"),
                "objects": float(objects(folder / "federation")),
                "MB logs": size(folder / "logs", "*"),
                "MB temporary": size(temporary, "*"),
                "MB record": size(run, EVENTS),
            }
            if status[0].startswith("finished"):
                break
            time.sleep(every)
        if status[0] != "finished:completed":
            raise SystemExit(f"the run did not end well: {' '.join(status)}")
        if done(run) != exchanges - 2:
            raise SystemExit(f"{done(run)} rounds are in the record, not {exchanges - 2}")


def memory(federation: LocalFederation) -> Sample:
    """MB of each kind of process that are its own; of the sites' the mean."""
    found: dict[str, list[float]] = {}
    for name, leader in federation.supervisor.guardians().items():
        kind = "site" if name.startswith("site-") else name
        found.setdefault(kind, []).append(_processes.private(leader))
    return {f"MB {kind}": statistics.mean(values) for kind, values in sorted(found.items())}


def done(run: Path) -> int:
    """Rounds that are in the run's record."""
    return len(read_run(run).rounds) if has_run(run) else 0


def size(folder: Path, pattern: str) -> float:
    """MB of all files of that name below `folder`."""
    total = 0
    for path in folder.rglob(pattern):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # it has gone
            continue
    return total / 1e6


def objects(folder: Path) -> int:
    """Objects of messages that the SuperLink's database knows of, in it or in files."""
    for path in folder.rglob("superlink.db"):
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        with closing(database), suppress(sqlite3.OperationalError):  # it is being changed just now
            return int(database.execute("SELECT count(*) FROM objects").fetchone()[0])
    return 0


def around(samples: list[Sample], exchanges: float) -> list[Sample]:
    """The samples nearest to so many exchanges."""
    return sorted(samples, key=lambda s: abs(s["exchanges"] - exchanges))[:AROUND]


def at(samples: list[Sample], exchanges: float, name: str) -> float:
    """A figure about then."""
    return statistics.median(sample.get(name, 0.0) for sample in around(samples, exchanges))


def growth(samples: list[Sample], name: str) -> float:
    """By how many MB a figure's mean over the second half is more than over the first half, from
    the first hundred exchanges on: half of what leaked steadily. A mean, as the objects that wait
    for their deletion, and the SuperLink's memory with them, wander from one sample to the next."""
    first = min(BEFORE, samples[-1]["exchanges"] / 2)
    values = [sample.get(name, 0.0) for sample in samples if sample["exchanges"] >= first]
    half = len(values) // 2
    return statistics.mean(values[half:]) - statistics.mean(values[:half] or values)


def allowed(name: str) -> float:
    """What a figure may grow by: the record by its lines, the rest by what wanders (MB)."""
    return float("inf") if name == "MB record" else 5.0


def report(samples: list[Sample], sites: int) -> None:
    """Print the table."""
    names = [name for name in samples[0] if name not in ("exchanges",)]
    last = samples[-1]["exchanges"]
    moments = [min(BEFORE, last / 2), *(share * last for share in MOMENTS)]
    show(
        f"{last:.0f} rounds, {sites} sites: minutes, MB, and objects",
        ("exchanges", *(name.removeprefix("MB ") for name in names)),
        [(f"{m:.0f}", *(at(samples, m, name) for name in names)) for m in moments],
    )


if __name__ == "__main__":
    typer.run(main)
