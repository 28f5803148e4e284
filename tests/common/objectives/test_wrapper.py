"""What a wrapper does not override is the inner objective's, whichever method it is."""

import inspect

import pytest

from common.models.model import Model
from common.objectives.base import Objective
from common.objectives.wrapper import PASSED_ON, Wrapper
from tests.builders.objectives import objective


def methods(kind: type) -> set[str]:
    return {n for n in vars(kind) if inspect.isfunction(vars(kind)[n]) and not n.startswith("_")}


def test_every_method_that_an_objective_has_for_others_is_passed_on() -> None:
    assert set(PASSED_ON) == methods(Objective) | methods(Model)
    assert {"represent", "terms", "shared", "restart_local", "start_from"} <= set(PASSED_ON)


@pytest.mark.parametrize("name", PASSED_ON)
def test_a_wrapper_that_overrides_nothing_answers_what_the_inner_one_answers(name: str) -> None:
    inner = objective("byol")
    asked: list[tuple[tuple, dict]] = []

    def answer(*arguments, **named):
        asked.append((arguments, named))
        return "the inner one's"

    setattr(inner, name, answer)
    assert getattr(Wrapper(inner), name)(1, two=2) == "the inner one's"
    assert asked == [((1,), {"two": 2})]


def test_a_wrapper_that_overrides_a_method_keeps_its_own_and_can_call_the_inner_one() -> None:
    class Louder(Wrapper):
        def width(self, embedding: str) -> int:
            return 10 * super().width(embedding)

    inner = objective("byol")
    assert Louder(inner).width("encoder") == 10 * inner.width("encoder")
    assert Louder(inner).shared().keys() == inner.shared().keys()
