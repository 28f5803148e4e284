"""Tables never cut what somebody may want to paste, on any screen and in any file."""

import io

import pytest
from rich.console import Console

from deploy.terminal.table import show_table

HEADS = ("run", "recipe", "rounds", "NMI")
NAME = "20261128-084001-fedsimclr-projection-with-a-name-that-is-longer-than-any-terminal-is-wide"
ROWS = [(NAME, "fedsimclr-projection", "10/10", "0.812"), ("a[b]\x1b[31m", "covey", "1/9", "–")]


def shown(width: int, terminal: bool, rows=ROWS) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, no_color=True)
    show_table(console, HEADS, rows, title="some [runs]", numbers=HEADS[2:])
    text = console.file.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_every_cell_stands_whole_on_one_line(width: int, terminal: bool) -> None:
    lines = shown(width, terminal)
    assert any("some [runs]" in line for line in lines)
    for row in ROWS:
        for cell in row:
            written = cell.replace("\x1b", "\\x1b")
            if cell != "–":
                assert any(written in line for line in lines), cell
    assert not any("…" in line for line in lines)


def test_a_narrow_terminal_gets_a_block_for_each_row_that_is_no_wider() -> None:
    lines = shown(60, terminal=True)
    assert lines[:3] == ["", "some [runs]", NAME]  # alone, to be pasted
    assert lines[3:] == [
        *("  recipe fedsimclr-projection · rounds 10/10 · NMI 0.812", "a[b]\\x1b[31m"),
        "  recipe covey · rounds 1/9",
    ]


def test_a_wide_terminal_and_a_file_get_a_table_with_numbers_to_the_right() -> None:
    short = [("a", "covey", "1/9", "0.5"), ("b", "fedbyol", "10/10", "0.812")]
    for lines in (shown(80, True, short), shown(20, False, short)):
        ends = [line for line in lines if line.endswith(("0.5", "0.812"))]
        assert len(ends) == 2 and len(ends[0]) == len(ends[1])
