"""The lines of a run while it works."""

from rich.console import Console

from deploy.terminal.progress import show_event
from tests.builders.records import a_round


def shown(rounds: int, **facts: object) -> list[str]:
    console = Console(width=80)
    with console.capture() as captured:
        for number in range(1, rounds + 1):
            show_event(console, a_round(number, "north", **facts), rounds)
    return captured.get().splitlines()


def test_of_thousands_of_steps_that_measure_nothing_some_are_shown() -> None:
    lines = shown(1999, received={}, cluster_sizes=())
    assert 20 <= len(lines) <= 22
    assert lines[0].lstrip().startswith("1/1999") and lines[-1].startswith("1999/1999")


def test_a_round_that_measures_is_a_line_however_many_there_are() -> None:
    assert len(shown(300)) == 300
    assert len(shown(10, received={})) == 10
