"""States that a run keeps on its way, so that training can go on from there without a site.

When a site comes for the first time, the state is kept that it had no part in; when all rounds of
training are over, the one with the projector that was trained, which may be lost when the run is
closed. They are files as the checkpoint is, in `states/`, named in `run.json`; nothing sends them.
There are at most `MOST` for sites that have come: then the one goes that is nearest after another,
whose sites fall back to that one, or to the beginning.
"""

import itertools
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from common.record.schema import KeptState, Run

STATES = "states"
MOST = 4  # beside the one with what was trained


def before(run: Run, sites: Collection[str]) -> KeptState | None:
    """The latest state that none of the `sites` had a part in; None: there is none but the
    beginning."""
    free = [state for state in run.kept or () if set(sites) <= set(_later(run.kept or (), state))]
    return max(free, key=_place, default=None)


def trained(run: Run) -> KeptState | None:
    """The state after all training."""
    return next((state for state in run.kept or () if state.trained), None)


def path_of(folder: Path, state: KeptState) -> Path:
    """Its file."""
    return folder / STATES / f"{state.round:06d}-{state.closed}.safetensors"


def keep(folder: Path, run: Run, checkpoint: Path, state: KeptState) -> Run:
    """Keep a copy of the file `checkpoint` as `state`; the run's record with it. What is not needed
    any more is deleted when that has been written (`clear`)."""
    same = next((each for each in run.kept or () if _place(each) == _place(state)), None)
    if same is not None:
        if set(state.before) <= set(same.before) and same.trained >= state.trained:
            return run
        names = tuple(sorted({*same.before, *state.before}))
        state = state.model_copy(update={"before": names, "trained": same.trained or state.trained})
    path = path_of(folder, state)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    shutil.copyfile(checkpoint, part)
    part.replace(path)
    others = [each for each in run.kept or () if _place(each) != _place(state)]
    return run.model_copy(update={"kept": _thinned([*others, state])})


def clear(folder: Path, run: Run) -> None:
    """Delete the files of states that `run` does not name."""
    named = {path_of(folder, state) for state in run.kept or ()}
    for path in (folder / STATES).glob("*"):
        if path not in named:
            path.unlink(missing_ok=True)


def _thinned(states: Iterable[KeptState]) -> tuple[KeptState, ...]:
    """At most `MOST` of those for sites, in order. Who loses a state is named at the one before."""
    ordered = sorted(states, key=_place)
    while sum(bool(state.before) for state in ordered) > MOST:
        sites = [index for index, state in enumerate(ordered) if state.before]
        rounds = [0, *(ordered[index].round for index in sites)]
        gaps = [later - earlier for earlier, later in itertools.pairwise(rounds)]
        number = gaps.index(min(gaps))
        gone = ordered[sites[number]]
        if number:
            other = sites[number - 1]
            names = tuple(sorted({*ordered[other].before, *gone.before}))
            ordered[other] = ordered[other].model_copy(update={"before": names})
        left = gone.model_copy(update={"before": ()})
        ordered[sites[number] : sites[number] + 1] = [left] if gone.trained else []
    return tuple(ordered)


def _later(states: Collection[KeptState], state: KeptState) -> list[str]:
    """Sites that had come by none of the states up to `state`."""
    return [name for each in states if _place(each) >= _place(state) for name in each.before]


def _place(state: KeptState) -> tuple[int, int]:
    return state.round, state.closed
