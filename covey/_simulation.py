"""Simulated federations: the same ServerApp and ClientApp, with all sites in this process."""

import contextlib
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from common.config import recipes
from common.config.options import Plan
from common.config.preparation import Window
from common.data.npz import pixels
from common.utils.errors import UserError
from covey._run import Run, read

Scalar: TypeAlias = str | int | float
Option: TypeAlias = Scalar | Sequence[Scalar] | Mapping[str, Scalar]
"""The value of a run's option: one for all stages, a list with one per stage, or for `parameters`
a dictionary."""
Labelled: TypeAlias = tuple[NDArray[Any], NDArray[Any]]

DATA = "data.npz"


def simulate(
    recipe: str | Path = recipes.DEFAULT,
    data: str | Path | NDArray[Any] | Labelled | None = None,
    *,
    folder: str | Path | None = None,
    progress: bool = False,
    **options: Option,
) -> Run:
    """Run a recipe over simulated sites in this process, to its end.

    `recipe`: a name (`covey recipes --all`) or the path of a .toml file. `data`: a data set's name,
    a folder of images, an .npz file, an array (N, H, W), (N, H, W, C) or (N, C, H, W) of square
    uint8 images, or a pair of those and labels (N,), which are kept in the run's folder; None: the
    recipe's. `folder`: a new one for the run; None: `runs/TIME-RECIPE`. `progress`: say on standard
    error how it goes. `options`: every option of `covey simulate --help`, with `_` for `-`:
    `local_epochs=2`, `rounds=[8, 4]` for the stages of a recipe, `parameters={"temperature": 0.2}`.

    The same seed gives the same bits on the same machine and number of threads (on a CPU). A folder
    that holds a run is not taken. `Error` for an option, a recipe or data that are none.
    """
    from deploy.engines.runs import (  # noqa: PLC0415 (slow)
        absolute_places,
        new_folder,
        spread_as_can_be,
        unless_empty,
    )
    from deploy.engines.simulate import simulate as carry_out  # noqa: PLC0415 (torch)

    given = {name.replace("_", "-"): _text(value) for name, value in options.items()}
    if data is not None and "dataset" in given:
        raise UserError("data and dataset are the same: give one of them")
    if isinstance(data, str | Path):
        given["dataset"] = str(data)
    plan = _plan(recipe, given)  # a mistake is told before a folder is made
    place = new_folder(Path("runs"), plan.recipe, None if folder is None else Path(folder))
    with unless_empty(place):
        if data is not None and not isinstance(data, str | Path):
            given["dataset"] = str(_keep(data, place, plan.preparation.given_window))
        say = _say if progress else _say_nothing
        plan = _plan(recipe, spread_as_can_be(str(recipe), absolute_places(given), say))
        with _saying(plan, place, progress) as watch:
            carry_out(plan, place, watch, say)
    _write_report(place)
    return read(place)


def _plan(recipe: str | Path, given: Mapping[str, str]) -> Plan:
    from deploy.engines.runs import checked  # noqa: PLC0415 (slow)

    return checked(recipes.load(str(recipe)).plan(given))


def _text(value: Option) -> str:
    """An option's value as on the command line."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_text(each)}" for name, each in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    return ",".join(_text(each) for each in value)


def _keep(data: NDArray[Any] | Labelled, place: Path, window: Window | None) -> Path:
    """Images, with labels or without, as an .npz file of 8 bits in the run's folder: its path."""
    images, labels = data if isinstance(data, tuple) else (data, None)
    arrays: dict[str, Any] = {"images": pixels(np.asarray(images), "data", window)}
    if labels is not None:
        arrays["labels"] = np.asarray(labels)
    path = place / DATA
    np.savez_compressed(path, **arrays)
    return path


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _say_nothing(_: str) -> None:
    """The run's record has it."""


@contextlib.contextmanager
def _saying(plan: Plan, place: Path, progress: bool) -> Iterator[Any]:
    """What is told each event of the run; what the engine prints is for the command line."""
    with contextlib.redirect_stdout(io.StringIO()):
        if not progress:
            yield None
            return
        from rich.console import Console  # noqa: PLC0415

        from deploy.terminal.live import live_line  # noqa: PLC0415
        from deploy.terminal.progress import show_event  # noqa: PLC0415

        console = Console(stderr=True)
        with live_line(place, console):
            yield lambda event: show_event(console, event, plan.rounds)


def _write_report(place: Path) -> None:
    """The map of the embeddings, and the report with it."""
    from deploy.evaluation.data_map import write_map  # noqa: PLC0415 (torch)
    from server.report import write_report  # noqa: PLC0415

    write_map(place)
    write_report(place)
