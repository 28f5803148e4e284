"""Methods that need the forgotten images: their site unlearns them, then all train for a round."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from client.app import build_app
from client.workbench import Workshop, pick_device
from common.data.partition import Partition
from common.data.planned import PARTITION, TAKEN, planned_data, taken_in
from common.record.forgetting import FILE
from common.record.orders import writer_of
from common.record.reader import has_run, read_run, read_settings
from common.unlearning import UNLEARNING
from common.utils.errors import UserError
from deploy.engines.in_process import sites_of
from deploy.forgetting import here
from deploy.forgetting.choosing import Wish
from deploy.forgetting.here import forget_here, plan_here
from server.app import run
from server.conversation import roster
from server.run.folder import TO_UNLEARN, RunFolder
from server.strategy import CoveyStrategy
from tests.builders.forgetting import QUICK, QUIET, SITE, random_files, same
from tests.server.fleet import Fleet

METHOD = "contrastive-unlearning"
Finished = Callable[..., Path]


@pytest.mark.parametrize("method", UNLEARNING)
def test_the_site_unlearns_then_all_train_for_the_last_round(
    finished: Finished, method: str
) -> None:
    before = finished("fedsimclr")
    asked = plan_here(before, SITE, random_files(before, 8), method)
    assert asked.start is not None and TO_UNLEARN in asked.start.memory
    after = forget_here(asked, QUIET)
    record = read_run(after)
    assert [event.event for event in record.events][:2] == ["unlearned", "round"]
    assert record.unlearned[0].answered == (SITE,)
    assert record.rounds[0].round == 2 and len(record.rounds[0].answered) == 4
    assert record.run.forgetting.method == method
    assert record.run.forgetting.parameters["epochs"] == 5
    assert not (after / TAKEN).exists()


def test_it_begins_with_the_projector_that_was_trained_and_goes_on_with_a_new_one(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = finished("covey")
    reached = load_file(next((before / "states").iterdir()))
    asked = plan_here(before, SITE, random_files(before, 8), METHOD)
    projector = asked.start.groups["projector"]
    assert projector.tobytes() == reached["group/projector"].tobytes()
    states = []
    advance = CoveyStrategy.advance
    monkeypatch.setattr(
        CoveyStrategy, "advance", lambda self, state: states.append(state) or advance(self, state)
    )
    forget_here(asked, QUIET)
    first = states[0]
    assert TO_UNLEARN not in first.memory and first.round == asked.start.round
    assert not np.array_equal(first.groups["projector"], projector)
    assert not np.array_equal(first.groups["encoder"], asked.start.groups["encoder"])


def test_what_it_cannot_do_is_one_line(finished: Finished) -> None:
    before = finished("covey")
    with pytest.raises(UserError, match=f"{SITE} leaves with all its images, and {METHOD} needs"):
        plan_here(before, SITE, Wish(everything=True), METHOD)
    run_ = RunFolder(before)
    run_._write_run(read_settings(before).model_copy(update={"kept": None}))
    with pytest.raises(UserError, match="has not kept the projector that it was trained with"):
        plan_here(before, SITE, random_files(before, 8), METHOD)
    assert [path.name for path in before.parent.iterdir()] == ["before"]


def test_against_byzantine_sites_no_site_alone_says_what_the_model_becomes(
    finished: Finished,
) -> None:
    robust = {"byzantine": 1, "sites": 5, "aggregation": "median", "centroids": "robust-k-means"}
    before = finished("fedsimclr", **robust)
    with pytest.raises(UserError, match="one site alone would say what the model becomes"):
        plan_here(before, SITE, random_files(before, 8), METHOD)


def test_too_few_images_are_refused_and_nothing_stays(finished: Finished) -> None:
    before = finished("fedsimclr")
    with pytest.raises(UserError, match="3 images were given to be unlearned"):
        forget_here(plan_here(before, SITE, random_files(before, 3), METHOD), QUIET)
    assert read_settings(before).superseded is None


class Killed(BaseException):
    """As if the process was gone."""


@pytest.mark.parametrize("moment", ["before it is unlearned", "before that is kept", "after"])
def test_killed_at_any_step_of_it_the_same_command_goes_on(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    before = finished("fedsimclr")
    wish = random_files(before, 8)
    untouched = forget_here(plan_here(before, SITE, wish, METHOD), QUIET)
    untouched.rename(tmp_path / "untouched")
    run_ = RunFolder(before)
    run_._write_run(read_settings(before).model_copy(update={"superseded": None}))
    name = "_ask" if moment == "after" else "advance"
    if moment == "before it is unlearned":
        monkeypatch.setattr("server.app.unlearn", killed)
    else:
        monkeypatch.setattr(CoveyStrategy, name, killed)
    with pytest.raises(Killed):
        forget_here(plan_here(before, SITE, wish, METHOD), QUIET)
    assert (before.parent / "before-without-1" / TAKEN).exists()
    monkeypatch.undo()
    after = forget_here(plan_here(before, SITE, wish, METHOD), QUIET)
    assert same(after, tmp_path / "untouched") and not (after / TAKEN).exists()
    assert len(read_run(after).unlearned) == 1


def killed(*_: object, **__: object) -> None:
    raise Killed


def test_a_site_that_is_away_is_waited_for_by_name(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "LATECOMERS", 0.1)
    before = finished("fedsimclr", deadline=1)
    asked = plan_here(before, SITE, random_files(before, 8), METHOD)
    folder = asked.folder
    fill = {PARTITION: asked.partition.save, TAKEN: asked.taken.save, FILE: writer_of(asked.order)}
    here.make(folder, asked.start, fill)
    data, workshop = planned_data(asked.order.plan), Workshop(pick_device("cpu"))
    parts = Partition.load(folder / PARTITION)
    sites = sites_of(data, parts, folder / "sites", workshop, taken_in(folder))
    grid = Fleet({s.trainer.site: build_app(lambda _c, r, s=s: s.handle(r)) for s in sites})
    grid.offline = {SITE}
    with pytest.raises(UserError, match="the quorum was missed"):
        run(grid, asked.order.plan, RunFolder(folder), "in-process")
    said = [event.text for event in read_run(folder).warnings]
    assert any(f"what {SITE} has taken back is there alone: waiting" in s for s in said)
    assert not any(kind == "train" for _, kind in grid.asked)
    assert not read_run(folder).unlearned


def test_where_the_site_that_asks_has_not_joined_that_is_said_and_nothing_begins(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "LATECOMERS", 0.1)
    before = finished(QUICK, deadline=0.2)
    names = ("site-0", SITE, "site-2", "site-3")
    order = plan_here(before, SITE, random_files(before, 8)).order
    order = order.model_copy(update={"asked": SITE, "sites": names})
    folder = before.parent / "after"
    here.make(folder, None, {FILE: writer_of(order)})
    data, workshop = planned_data(order.plan), Workshop(pick_device("cpu"))
    parts = Partition.load(before / PARTITION)
    sites = sites_of(data, parts, folder / "sites", workshop)
    grid = Fleet({s.trainer.site: build_app(lambda _c, r, s=s: s.handle(r)) for s in sites})
    grid.offline = {SITE}
    with pytest.raises(UserError, match=f"site {SITE} takes images back here.*it is away"):
        run(grid, order.plan, RunFolder(folder), "in-process")
    assert not has_run(folder)
