"""Flower's own loop, `Strategy.start` of flwr, runs a recipe to the bits of our loop."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message
from flwr.serverapp.strategy import Result, Strategy

from client.workbench import Workshop, pick_device
from common.config.options import Plan
from common.data.planned import planned_data, planned_partition
from common.stages import settle_parameters
from common.utils.errors import UserError
from deploy.engines.in_process import InProcessGrid, grid_of, sites_of
from server.conversation.roster import Roster
from server.run.folder import RunFolder
from server.strategy import CoveyStrategy
from tests.builders.runs import Groups, plan, run, same

TIMES = ("time", "seconds", "bytes_down")  # it sends the whole model where ours need not


class Flaky(InProcessGrid):
    """No answer of the `bad` call of `send_and_receive`, from 1, is usable."""

    def __init__(self, grid: InProcessGrid, bad: int) -> None:
        super().__init__({node.name: node.app for node in grid._nodes.values()})
        self.calls, self.bad = 0, bad

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        messages = list(messages)
        self.calls += bool(messages)
        answers = super().send_and_receive(messages)
        if not messages or self.calls != self.bad:
            return answers
        return [Message(Error(0, "lost"), reply_to=message) for message in messages]


def strategy_of(
    folder: Path, recipe: str, bad: int = 0, **options: object
) -> tuple[CoveyStrategy, InProcessGrid]:
    the_plan: Plan = settle_parameters(plan(recipe, **options))
    data = planned_data(the_plan)
    parts = planned_partition(the_plan, data)
    sites = sites_of(data, parts, folder / "sites", Workshop(pick_device("cpu")))
    grid = Flaky(grid_of(sites), bad)
    roster = Roster(grid, the_plan, folder.name, warn=print)
    roster.gather(patience=5)
    return CoveyStrategy(the_plan, RunFolder(folder), roster), grid


def by_flower(folder: Path, recipe: str, flowers: int, **options: object) -> CoveyStrategy:
    strategy, grid = strategy_of(folder, recipe, **options)
    strategy.start(grid, ArrayRecord(), num_rounds=flowers)
    return strategy


def told(folder: Path) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] != "warning"]
    return [{k: v for k, v in event.items() if k not in TIMES} for event in events]


def test_start_is_flowers_own() -> None:
    assert CoveyStrategy.start is Strategy.start


@pytest.mark.parametrize(
    ("recipe", "rounds", "options"),
    [
        ("fedsimclr", 3, {}),
        ("fedadam", 2, {"participation": 0.5, "sites": 4}),  # the server's optimiser remembers
        ("fedsimclr", 2, {"objective": "spectral"}),  # each round begins with an exchange
        ("covey-sync", 3, {"rounds": 3, "parameters": ",,landmarks=40"}),  # the gradient's steps
        ("covey", 1, {"rounds": "0,1,0", "parameters": ",,landmarks=40"}),  # stages of no rounds
        ("fedmcc", 2, {"rounds": "1,1"}),  # the second stage's head starts from centroids
    ],
)
def test_several_rounds_give_the_model_and_figures_of_our_loop_to_the_bit(
    recipe: str, rounds: int, options: dict, tmp_path: Path
) -> None:
    ours: Groups = run(tmp_path / "run", recipe, **{"rounds": rounds, **options})
    theirs = by_flower(tmp_path / "flower" / "run", recipe, rounds, **{"rounds": rounds, **options})
    assert theirs.is_over
    assert same(dict(theirs.state.groups), ours)
    assert told(tmp_path / "flower" / "run") == told(tmp_path / "run")


def test_what_flower_is_given_is_the_model_and_its_figures(tmp_path: Path) -> None:
    strategy, grid = strategy_of(tmp_path / "run", "fedsimclr", rounds=2)
    result: Result = strategy.start(grid, ArrayRecord(), num_rounds=5)  # three more ask nothing
    given = {name: array.numpy() for name, array in result.arrays.items()}
    assert same(given, dict(strategy.state.groups))
    assert sorted(result.train_metrics_clientapp) == [1, 2]
    assert list(result.evaluate_metrics_clientapp) == [2]
    assert 0 <= result.evaluate_metrics_clientapp[2]["representation.nmi"] <= 1


def test_a_round_that_too_few_answer_is_asked_for_again(tmp_path: Path) -> None:
    ours = run(tmp_path / "run", "fedsimclr", rounds=2)
    strategy, grid = strategy_of(tmp_path / "flower" / "run", "fedsimclr", bad=2, rounds=2)
    result = strategy.start(grid, ArrayRecord(), num_rounds=3)
    assert sorted(result.train_metrics_clientapp) == [1, 3]
    assert same(dict(strategy.state.groups), ours)
    warned = (tmp_path / "flower" / "run" / "metrics.jsonl").read_text()
    assert "0 of 2 sites gave a usable answer" in warned


def test_training_goes_on_from_the_arrays_that_it_is_given(tmp_path: Path) -> None:
    strategy, grid = strategy_of(tmp_path / "a", "fedsimclr", rounds=1)
    first = strategy.start(grid, ArrayRecord(), num_rounds=1).arrays
    again, grid = strategy_of(tmp_path / "b", "fedsimclr", rounds=1)
    second = again.start(grid, first, num_rounds=1).arrays
    assert not np.array_equal(first["encoder"].numpy(), second["encoder"].numpy())
    whole = {k: v.numpy() for k, v in first.items()}
    twice, grid = strategy_of(tmp_path / "c", "fedsimclr", rounds=1)
    other = ArrayRecord({k: Array(v) for k, v in whole.items()})
    assert np.array_equal(
        twice.start(grid, other, num_rounds=1).arrays["encoder"].numpy(),
        second["encoder"].numpy(),
    )


def test_arrays_of_another_model_are_refused(tmp_path: Path) -> None:
    strategy, grid = strategy_of(tmp_path / "run", "fedsimclr", rounds=1)
    with pytest.raises(UserError, match="not a group of this model"):
        strategy.start(grid, ArrayRecord({"x": Array(np.ones(3, np.float32))}), num_rounds=1)
