"""When a round closes before its deadline."""

import pytest

from server.conversation.closing import HANDED_OVER, Closing


@pytest.mark.parametrize(
    ("seconds", "answered", "waiting", "over"),
    [
        (1, "", "abcd", False),
        (5, "ab", "cd", False),  # c is waited for
        (30, "abc", "d", False),  # as long again as the others took
        (61, "abc", "d", True),
        (61, "a", "d", False),  # the others made no quorum
        (2, "abcd", "", True),
    ],
)
def test_a_site_that_was_late_is_waited_for_twice_as_long_as_the_others_took(
    seconds: float, answered: str, waiting: str, over: bool
) -> None:
    closing = Closing(wanted=4, least=2, tardy={"d"})
    closing.due(30, "abc", "d")
    assert closing.due(seconds, answered, waiting) == over


@pytest.mark.parametrize(("seconds", "over"), [(11, False), (59, False), (60, True)])
def test_a_site_on_a_slow_line_has_a_minute_to_take_the_model(seconds: float, over: bool) -> None:
    closing = Closing(2, 1, {"b", "d"}, HANDED_OVER)
    closing.due(0.5, "b", "d")
    assert closing.due(seconds, "b", "d") == over
