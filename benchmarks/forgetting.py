"""Whether forgetting forgets: every method against runs that never had the data.

    python benchmarks/forgetting.py --datasets fashion-mnist,mnist --yardstick covey \\
        --json forgetting.json
    python benchmarks/forgetting.py --recipe fedsimclr --sites 1 --images 150 --random 50 \\
        --partitions iid --take random --methods exact-sums --options 'rounds=6 local-epochs=50' \\
        --json memory.json

Of each federation, `--take`: `random` images of all sites (`--random` of them), one `site`, one
`class`, both drawn by the seed; each is taken back by each of `--methods` (none: the one that there
is for a recipe without training) and audited (`deploy/audit/`). A row is kept as soon as it is
there, and one that `--json` has already is not made again. What Covey refuses is said in a line.
The table has means over the seeds, and the lowest and highest: AUC of each calibrated attack before
and after, and the range of the runs without the data; TPR at 1 % FPR of the first attack; NMI of
test images, and its largest distance from the mean of the runs without the data; the share of a run
anew's time that forgetting took, and of that of a run of `--yardstick`; verdicts.
"""

import json as json_lines
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from _table import save_json
from rich.console import Console

from common.config import recipes
from common.data.images import Indices
from common.data.partition import Partition
from common.data.planned import PARTITION, planned_data
from common.record.reader import read_run
from common.utils.errors import UserError
from common.utils.seeds import derive_seed
from deploy.audit.audit import Audit, audit
from deploy.audit.report import as_json, write_report
from deploy.engines.simulate import simulate
from deploy.forgetting.here import forget_here, plan_without
from deploy.forgetting.preparing import earlier_run
from server.report.accounts import total_seconds

Row = dict[str, Any]
CASE = ("recipe", "dataset", "partition", "take", "method", "seed", "images", "sites", "options")
BY = "AUC by {}: before"
HEAD = ("dataset", "partition", "taken back", "method", "seeds", "equal bits")
REST = ("TPR before", "after", "NMI after", "gap", "time", "of yardstick", "verdict")


@dataclass(frozen=True)
class Case:
    """One federation: its original run is made once for all that is taken back from it."""

    recipe: str
    dataset: str
    partition: str
    seed: int
    images: int
    sites: int
    options: str

    def given(self) -> dict[str, str]:
        """As on the command line."""
        more = dict(pair.split("=", 1) for pair in self.options.split())
        own = {name: str(getattr(self, name)) for name in ("dataset", "partition", "seed")}
        return {
            "device": "cpu",
            "images": str(self.images),
            "sites": str(self.sites),
            **own,
            **more,
        }


@dataclass(frozen=True)
class Asked:
    """What is taken back of each federation, and how it is audited."""

    take: tuple[str, ...]
    methods: tuple[str, ...]
    random: int
    references: int
    yardstick: str


def main(
    datasets: str = "fashion-mnist,mnist",
    partitions: str = "p-skew(1.0),dirichlet(0.1)",
    take: str = "random,site,class",
    methods: str = "",
    seeds: str = "0,1,2",
    recipe: str = "covey-exact",
    images: int = 5000,
    sites: int = 10,
    random: int = 500,
    references: int = 2,
    yardstick: Annotated[str, typer.Option(help="a recipe whose time, too, is compared")] = "",
    options: str = "",
    json: Annotated[Path | None, typer.Option(help="read and write the rows here")] = None,
    reports: Annotated[Path | None, typer.Option(help="keep the audits' pages here")] = None,
) -> None:
    """Try them all, print a row for each attack."""
    torch.set_num_threads(1)
    rows: list[Row] = json_lines.loads(json.read_text("utf-8")) if json and json.exists() else []
    listed = (tuple(take.split(",")), tuple(methods.split(",")))
    asked = Asked(*listed, random, references, yardstick)
    for seed in seeds.split(","):
        for dataset in datasets.split(","):
            for partition in partitions.split(","):
                case = Case(recipe, dataset, partition, int(seed), images, sites, options)
                for row in tried(case, asked, rows, reports):
                    rows.append(row)
                    print({k: v for k, v in row.items() if k != "audit"}, flush=True)
                    if json:
                        save_json(json, rows)
    for line in table(rows):
        print(f"| {' | '.join(line)} |")


def tried(case: Case, asked: Asked, rows: list[Row], reports: Path | None) -> Iterator[Row]:
    """The rows of one federation that are not there yet."""
    known = {tuple(row[name] for name in CASE) for row in rows}
    about = {**vars(case)}
    wanted = [
        (what, method)
        for what in asked.take
        for method in asked.methods
        if tuple({**about, "take": what, "method": method}[name] for name in CASE) not in known
    ]
    if not wanted:
        return
    with tempfile.TemporaryDirectory(prefix="covey-") as place:
        original = Path(place) / "original"
        original.mkdir()
        simulate(recipes.load(case.recipe).plan(case.given()), original)
        usual = seconds_of(case, asked.yardstick, Path(place)) if asked.yardstick else None
        for what, method in wanted:
            try:
                found = one(original, Path(place) / what, what, method, case.seed, asked)
            except UserError as error:
                print(f"{what}, {method}: {error}", flush=True)
                continue
            if reports is not None:
                name = "-".join(map(str, (case.dataset, case.partition, case.seed, what, method)))
                (reports / name).mkdir(parents=True, exist_ok=True)
                write_report(found, reports / name)
            row = {**about, "take": what, "method": method, "yardstick": usual}
            yield {**row, "audit": as_json(found)}


def seconds_of(case: Case, recipe: str, place: Path) -> float:
    """What a run of another recipe takes on the same images at the same sites."""
    folder = place / "yardstick"
    folder.mkdir()
    simulate(recipes.load(recipe).plan(case.given()), folder)
    return total_seconds(read_run(folder))


def one(original: Path, place: Path, what: str, method: str, seed: int, asked: Asked) -> Audit:
    """Take back, in a copy of the run, since one is superseded once; audit. Runs without the data
    are made once for all methods."""
    run = place / (method or "exact") / "original"
    shutil.copytree(original, run, ignore=shutil.ignore_patterns("sites"))
    earlier = earlier_run(run)
    data = planned_data(earlier.run.settings())
    before = Partition.load(run / PARTITION)
    gone = chosen(what, before, data.labels, asked.random, seed)
    left = tuple(np.setdiff1d(part, gone) for part in before.sites)
    forgotten = plan_without(earlier, before, left, data, method)
    folder = forget_here(forgotten, Console(quiet=True))
    return audit(run, folder, asked.references, print, place / "without")


def chosen(
    what: str, partition: Partition, labels: Indices | None, random: int, seed: int
) -> Indices:
    """Rows that are taken back; which site and which class, the seed draws."""
    drawn = np.random.default_rng(derive_seed(seed, "taken back", what))
    held = np.concatenate(partition.sites)
    if what == "random":
        return np.sort(drawn.permutation(held)[:random])
    if what == "site":
        site: Indices = partition.sites[int(drawn.integers(len(partition.sites)))]
        return site
    if what == "class" and labels is not None:
        found: Indices = held[labels[held] == drawn.choice(np.unique(labels[held]))]
        return found
    raise typer.BadParameter(f"take: {what}: random, site or class")


def table(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """The head, then a line for each case, over its seeds: AUC of each attack, TPR of the first."""
    cases: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        cases.setdefault(tuple(row[name] for name in CASE if name != "seed"), []).append(row)
    names = list(dict.fromkeys(each["name"] for row in rows for each in row["audit"]["attacks"]))
    head = [title for name in names for title in (BY.format(name), "after", "without")]
    yield (*HEAD, *head, *REST)
    yield ("---",) * (len(HEAD) + len(head) + len(REST))
    for several in cases.values():
        found = [row["audit"] for row in several]
        equal = sum(all(each["same"] for each in one["published"]) for one in found)
        about = [several[0][name] for name in ("dataset", "partition", "take")]
        about += [several[0]["method"] or "exact", len(found), f"{equal} of {len(found)}"]
        by = {
            name: [a for one in found for a in one["attacks"] if a["name"] == name]
            for name in names
        }
        first = by[names[0]]
        cells = [
            *(cell for name in names for cell in attacked(by[name])),
            spread([one["original"]["tpr"] for one in first]),
            spread([one["forgotten"]["tpr"] for one in first]),
            *worth(found),
            spread([one["cost"]["share"] for one in found]),
            of_yardstick(several),
            ", ".join(sorted({one["verdict"]["outcome"] for one in found})),
        ]
        yield tuple(map(str, [*about, *cells]))


def attacked(tried: list[Row]) -> tuple[str, str, str]:
    """AUC before, after, and of the runs without the data (their range: calibrated by one another,
    their mean is .5)."""
    if not tried:
        return "–", "–", "–"
    without = [each["auc"] for one in tried for each in one["without"]]
    return (
        spread([one["original"]["auc"] for one in tried]),
        spread([one["forgotten"]["auc"] for one in tried]),
        f"{min(without):.3f} to {max(without):.3f}",
    )


def worth(found: list[Row]) -> tuple[str, str]:
    """NMI of test images after forgetting, and its largest gap; dashes without labels."""
    nmi = [each for one in found for each in one["figures"] if each["key"] == "nmi"]
    if not nmi:
        return "–", "–"
    return spread(
        [one["forgotten"] for one in nmi]
    ), f"{max((o['gap'] for o in nmi), key=abs):+.3f}"


def of_yardstick(rows: list[Row]) -> str:
    """Forgetting's share of another recipe's time, where that was measured."""
    shares = [
        row["audit"]["cost"]["seconds"] / usual for row in rows if (usual := row.get("yardstick"))
    ]
    return spread(shares) if shares else "–"


def spread(values: list[float]) -> str:
    """The mean, and the lowest and highest where they differ."""
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    mean = f"{sum(values) / len(values):.3f}"
    return mean if low == high else f"{mean} ({low} to {high})"


if __name__ == "__main__":
    typer.run(main)
