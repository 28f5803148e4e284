"""What a run has learned is in the runs that answer questions to it, too."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common.record.follow_up import FollowUp
from common.record.reader import read_settings
from common.utils.errors import UserError
from deploy.engines.simulate import simulate
from deploy.forgetting.deleting import delete, to_delete
from deploy.forgetting.here import forget_here, plan_here
from deploy.questions.following import _make, follow_here, plan_following
from server.run.folder import RunFolder
from tests.builders.forgetting import QUIET, SITE, random_files
from tests.deploy.forgetting.conftest import finished  # noqa: F401 (a fixture)

SPLIT = FollowUp(of="run", kind="split", cluster=0, parts=2)


def test_images_are_taken_back_from_the_first_run_and_all_that_hang_on_it_are_marked(
    finished: Callable[..., Path],  # noqa: F811
) -> None:
    before = finished("fedkmeans-pixels", partition="iid")
    split = plan_following(before, SPLIT)
    follow_here(split, QUIET)
    again = plan_following(split.folder, SPLIT.model_copy(update={"cluster": 1}))
    follow_here(again, QUIET)
    with pytest.raises(UserError, match="answers a question to before: forget there"):
        plan_here(split.folder, SITE, random_files(before))
    after = forget_here(plan_here(before, SITE, random_files(before)), QUIET)
    for folder in (before, split.folder, again.folder):
        assert read_settings(folder).superseded == after.name
    assert read_settings(after).superseded is None


@pytest.fixture
def asked(finished: Callable[..., Path]) -> Path:  # noqa: F811
    """A run with answers of both kinds, one to an answer, and one that was killed when its folder
    had been made; beside it a run that hangs on nothing, half of an answer, and damage."""
    before = finished("fedkmeans-pixels", partition="iid")
    runs, split = before.parent, plan_following(before, SPLIT)
    simulate(read_settings(before).settings(), runs / "other")
    follow_here(split, QUIET)
    follow_here(plan_following(split.folder, SPLIT.model_copy(update={"cluster": 1})), QUIET)
    follow_here(plan_following(before, CHOICE), QUIET)
    begun = plan_following(before, SPLIT.model_copy(update={"cluster": 2}))
    _make(begun, {})
    (runs / ".before-split-3.part").mkdir()
    (runs / "damaged").mkdir()
    (runs / "damaged" / "run.json").write_text("{")
    return before


CHOICE = FollowUp(of="run", kind="choose-k", low=2, high=4)
STAYS = {".before-split-3.part", "damaged", "other"}


def test_the_answers_of_a_run_are_deleted_with_it(asked: Path) -> None:
    runs = asked.parent
    after = forget_here(plan_here(asked, SITE, random_files(asked)), QUIET)
    left = {path.name for path in runs.iterdir()} - STAYS
    answers = {"before-split-0", "before-split-0-split-1", "before-choose-k"}
    assert left == {"before", after.name, *answers}  # the one that had not begun is gone already
    folders = to_delete(asked)
    assert {path.name for path in folders} == {"before", *answers}
    assert folders[-1] == asked and folders.index(runs / "before-split-0-split-1") < 2
    answer = FollowUp(of="before-without-1", kind="split", parts=2)
    follow_here(plan_following(after, answer), QUIET)
    delete(folders)
    gone = STAYS - {".before-split-3.part"}
    assert {p.name for p in runs.iterdir()} == {*gone, after.name, f"{after.name}-split-0"}


@pytest.mark.parametrize("damaged", ["run.json", "follow-up.json"])
def test_an_answer_that_is_damaged_goes_with_its_run_too(asked: Path, damaged: str) -> None:
    answer = asked.parent / "before-choose-k"
    (answer / damaged).write_text("{")
    forget_here(plan_here(asked, SITE, random_files(asked)), QUIET)
    delete(to_delete(asked))
    assert not answer.exists() and not asked.exists()


def test_an_answer_that_cannot_say_whose_it_is_stops_a_deletion(asked: Path) -> None:
    answer = asked.parent / "before-choose-k"
    for name in ("run.json", "follow-up.json"):
        (answer / name).write_text("{")
    forget_here(plan_here(asked, SITE, random_files(asked)), QUIET)
    with pytest.raises(UserError, match="before-choose-k"):
        to_delete(asked)
    assert asked.exists()


def test_an_answer_that_is_going_on_stops_a_deletion(asked: Path) -> None:
    forget_here(plan_here(asked, SITE, random_files(asked)), QUIET)
    answer = RunFolder(asked.parent / "before-split-0-split-1")
    with answer.held(), pytest.raises(UserError, match=f"{answer.name} is going on"):
        to_delete(asked)
