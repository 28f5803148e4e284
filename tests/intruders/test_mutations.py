"""100,000 spoiled messages each way."""

import pytest

from tests.intruders import instructions, replies

pytestmark = [
    pytest.mark.timeout(3600),  # two minutes each on a quiet core
    pytest.mark.filterwarnings("ignore"),  # spoiled bytes make numpy and torch warn
]
MANY = 100_000


def test_100_000_spoiled_replies_are_refused_or_change_nothing_for_the_worse(capsys):
    tally = replies.bombard(MANY, seed=7)
    with capsys.disabled():
        print(f"\n         {tally}")
    assert tally.refused > MANY / 2 and tally.passed > MANY / 100  # neither is all there is


def test_100_000_spoiled_instructions_make_a_site_do_nothing_else(tmp_path, monkeypatch, capsys):
    tally = instructions.bombard(MANY, tmp_path, monkeypatch, seed=7)
    with capsys.disabled():
        print(f"\n         {tally}")
    assert tally.refused > MANY / 2 and tally.passed > MANY / 100
