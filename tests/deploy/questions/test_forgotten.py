"""What a run has learned is in the runs that answer questions to it, too."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common.record.follow_up import FollowUp
from common.record.reader import read_settings
from common.utils.errors import UserError
from deploy.forgetting.here import forget_here, plan_here
from deploy.questions.following import follow_here, plan_following
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
