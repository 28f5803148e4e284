"""What is declared of each exchange is what a site answers and the server adds up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import client.trainer
from client.tasks import TASKS
from common.protocol.declaration import WIDTH, Exchange, Needs, Sum, When
from common.protocol.exchanges import EXCHANGES, MOST_SETS, declared
from common.protocol.messages import Reply
from common.utils.errors import UserError
from server.clustering import lloyd
from server.conclusions import CONCLUSIONS
from tests.builders.sites import trainer
from tests.intruders import instructions

ASKED = [kind for kind, each in EXCHANGES.items() if each.needs is not Needs.NOTHING]
IMAGES = 60


def test_every_exchange_has_its_function_at_the_site_and_figures_theirs_at_the_server() -> None:
    assert sorted(TASKS) == sorted(ASKED)
    concluded = {kind for kind, each in EXCHANGES.items() if each.figures}
    assert CONCLUSIONS.keys() == {"assess", "score"} | concluded


def test_two_of_one_name_are_an_error() -> None:
    one = EXCHANGES["moments"]
    with pytest.raises(ValueError, match="two exchanges"):
        declared(one, one)
    twice = Sum("x", "x", "x", (WIDTH,))
    with pytest.raises(ValueError, match="two sums"):
        Exchange("y", "y", "y", When.ENDING, sums=(twice, twice))


def test_the_server_sends_as_many_sets_of_centroids_as_a_site_takes() -> None:
    assert EXCHANGES["lloyd"].sets == MOST_SETS == lloyd.MOST_SETS


@pytest.mark.parametrize("kind", ASKED)
def test_a_real_answer_has_what_is_declared_and_no_more_than_its_images_can_add(
    kind: str, tmp_path: Path
) -> None:
    reply = trainer(tmp_path, IMAGES).handle(instructions.instruction(kind))
    declared_sums = EXCHANGES[kind].sums
    given = {name for part in ("tables", "vectors", "moments") for name in getattr(reply, part)}
    assert {each.name for each in declared_sums if not each.optional} <= given
    assert given <= {each.name for each in declared_sums}
    for each in declared_sums:
        values = getattr(reply, each.part).get(each.name)
        if values is None:
            continue
        sets = 8 if each.repeats.symbol != "1" else 1  # in `instruction`
        assert np.abs(values).max() <= IMAGES * each.bound * 1.001
        assert np.linalg.norm(values.astype(float)) <= IMAGES * each.norm * sets * 1.001
        assert np.abs(values).max() > 0


WRONG = {
    "a sum that is not declared": ({"vectors": {"labels": np.ones(3)}}, "vectors.labels"),
    "parameters": ({"groups": {"encoder": np.ones(4, np.float32)}}, "groups: not asked for"),
    "one image too few": ({"tables": {"lloyd": np.full((80, 1), 4)}}, "4 images, and none"),
    "another kind": ({"kind": "score"}, "score of round 1 was not asked for"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_declared_does_not_leave_the_site(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, why = WRONG[case]

    def careless(task) -> Reply:
        return replace(TASKS["lloyd"](task), **parts)

    site = trainer(tmp_path, IMAGES)
    asked = instructions.instruction("lloyd")
    assert site.handle(asked).kind == "lloyd"
    monkeypatch.setattr(client.trainer, "TASKS", {"lloyd": careless})
    with pytest.raises(UserError, match=why):
        site.handle(asked)
