"""A few hundred spoiled replies; 100,000 are `make intruders`."""

from tests.intruders.replies import bombard


def test_spoiled_replies_are_refused_or_change_nothing_for_the_worse() -> None:
    tally = bombard(700, seed=1)
    assert tally.refused > 350 and tally.passed > 7
