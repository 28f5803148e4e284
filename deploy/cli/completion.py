"""What a shell offers after Tab: recipes, data sets, encoders, partitions, runs.

`covey --install-completion` sets it up. It has to be quick: nothing here imports torch.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from common.config import recipes
from common.config.options import ENCODERS, VIEWS
from common.record.reader import has_run

PARTITIONS = ("iid", "dirichlet(0.1)", "p-skew(0.75)", "shards(2)")
RUNS = Path("runs")

Complete = Callable[[str], list[str]]


def complete_recipe(incomplete: str) -> list[str]:
    """The recipes that ship with Covey; a shell knows files by itself."""
    return _of(recipes.names(), incomplete)


def complete_dataset(incomplete: str) -> list[str]:
    """The known data sets."""
    from common.data import DATASETS  # noqa: PLC0415 (numpy)

    return _of(DATASETS, incomplete)


def complete_run(incomplete: str) -> list[str]:
    """The folders of runs, newest first: those in `runs`, or in the folder that was begun."""
    parent = Path(incomplete.rpartition("/")[0] or "/") if "/" in incomplete else RUNS
    return _of((str(path) for path in _runs(parent)), incomplete)


def complete_name(context: click.Context, incomplete: str) -> list[str]:
    """The names of the runs of `--server`, newest first."""
    folder = Path(context.params.get("server") or ".") / "runs"
    return _of((path.name for path in _runs(folder)), incomplete)


def _one_of(names: Iterable[str]) -> Complete:
    return lambda incomplete: _of(names, incomplete)


OPTIONS: dict[str, Complete] = {
    "dataset": complete_dataset,
    "encoder": _one_of(ENCODERS),
    "views": _one_of(VIEWS),
    "partition": _one_of(PARTITIONS),
}
"""Of options of a run, by name; those with a list of values offer these."""


def offer(name: str, values: Iterable[str]) -> Complete | None:
    """What the option of a run called `name`, with these `values` (if it has a list), offers."""
    return OPTIONS.get(name) or (_one_of(tuple(values)) if values else None)


def _runs(parent: Path) -> list[Path]:
    try:
        found = [path for path in parent.iterdir() if has_run(path)]
    except OSError:
        return []
    return sorted(found, key=lambda path: path.name, reverse=True)


def _of(names: Iterable[str], incomplete: str) -> list[str]:
    wanted = incomplete.replace("\\", "")
    return [_quoted(name) for name in names if name.startswith(wanted)]


def _quoted(name: str) -> str:
    """bash takes what it is given as it would be typed; other shells quote it themselves."""
    if "bash" not in os.environ.get("_COVEY_COMPLETE", ""):
        return name
    return name.replace("(", "\\(").replace(")", "\\)").replace(" ", "\\ ")
