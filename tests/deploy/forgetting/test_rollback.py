"""Rollback: as if the site had never come, from the state before it."""

from pathlib import Path

import numpy as np
import pytest

from client.site import open_site
from client.workbench import Workshop, pick_device
from common.config.options import Plan
from common.data.partition import Partition
from common.data.planned import PARTITION, planned_data
from common.record.forgetting import Forgetting, Order
from common.record.reader import read_settings
from common.utils.errors import UserError
from deploy.engines.in_process import grid_of
from deploy.forgetting.choosing import Wish
from deploy.forgetting.here import forget_here, plan_here
from server.app import run
from server.conversation import roster
from server.run.folder import RunFolder
from server.strategy import CoveyStrategy
from tests.builders.forgetting import QUIET, same
from tests.builders.runs import plan

LATE = 2
PARTS = tuple(np.arange(40) + 40 * index for index in range(LATE + 1))


class Killed(BaseException):
    """As if the process was gone."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "LATECOMERS", 0.1)


def federation(folder: Path, recipe: Plan, sites: int, gone: int = 0) -> None:
    """Go on with so many sites; the last one has so many images fewer."""
    data, workshop = planned_data(recipe), Workshop(pick_device("cpu"))
    opened = []
    for index, part in enumerate(PARTS[:sites]):
        own = data.subset(part[gone if index == LATE else 0 :])
        name = f"site-{index}"
        opened.append(open_site(name, own, folder / "sites" / name, workshop))
    run(grid_of(opened), recipe, RunFolder(folder), "in-process")


def joined_late(
    folder: Path, monkeypatch: pytest.MonkeyPatch, recipe: Plan, gone: int = 0, after: int = 1
) -> Path:
    """A run of two sites, to which a third comes after round `after`."""
    folder.mkdir(parents=True)
    Partition("iid", 0, PARTS).save(folder / PARTITION)
    advance = CoveyStrategy.advance

    def dying(strategy, state) -> None:
        advance(strategy, state)
        if state.round == after:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(CoveyStrategy, "advance", dying)
        federation(folder, recipe, LATE)
    federation(folder, recipe, LATE + 1, gone)
    return folder


@pytest.mark.parametrize("everything", [True, False])
def test_the_result_is_that_of_a_run_that_from_there_on_never_had_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everything: bool
) -> None:
    recipe = plan("fedsimclr", images=120, rounds=3)
    recipe = recipe.model_copy(update={"sites": LATE})
    before = joined_late(tmp_path / "runs" / "before", monkeypatch, recipe)
    names = tuple(planned_data(recipe).names[row] for row in PARTS[LATE][:10])
    wish = Wish(everything=True) if everything else Wish(names=names)
    asked = plan_here(before, f"site-{LATE}", wish, "rollback")
    assert asked.start is not None and asked.start.round == 1
    assert "begins after round 1 of 3: 2 rounds of training" in asked.lines()
    after = forget_here(asked, QUIET)

    never = tmp_path / "never"
    if everything:  # nor did it come later: a run of the two others alone
        never.mkdir()
        federation(never, recipe, LATE)
    else:
        joined_late(never, monkeypatch, recipe, gone=10)
    assert same(after, never) and not same(after, before)
    assert read_settings(after).forgetting.method == "rollback"


def test_for_a_site_of_the_first_round_it_is_retraining_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = plan("fedsimclr", images=120, rounds=2).model_copy(update={"sites": LATE})
    before = joined_late(tmp_path / "runs" / "before", monkeypatch, recipe)
    asked = plan_here(before, "site-0", Wish(everything=True), "rollback")
    assert asked.start is None
    assert "begins at the beginning: all 2 rounds of training" in asked.lines()


def test_a_state_that_is_damaged_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = plan("fedsimclr", images=120, rounds=2).model_copy(update={"sites": LATE})
    before = joined_late(tmp_path / "runs" / "before", monkeypatch, recipe)
    (state,) = (before / "states").iterdir()
    state.write_bytes(b"cut")
    with pytest.raises(UserError, match="is damaged"):
        plan_here(before, f"site-{LATE}", Wish(everything=True), "rollback")


def test_what_another_site_has_taken_back_is_not_passed_over() -> None:
    recipe = plan("covey")
    order = Order(
        plan=recipe,
        forgetting=Forgetting(of="a", method="rollback"),
        key="k",
        asked="late",
        sites=("late", "north"),
        alone=True,
    )
    assert order.among({"late": 3}).images == {"late": 3}
    with pytest.raises(UserError, match="site north has taken back images, too"):
        order.among({"late": 3, "north": 1})
