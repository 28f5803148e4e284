"""A few hundred spoiled instructions; 100,000 are `make intruders`."""

from tests.intruders.instructions import bombard


def test_spoiled_instructions_make_a_site_do_nothing_else(tmp_path, monkeypatch) -> None:
    tally = bombard(700, tmp_path, monkeypatch, seed=1)
    assert tally.refused > 350 and tally.passed > 7
