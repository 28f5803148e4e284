"""Tables that never cut what somebody may want to paste.

A table as wide as the screen is one; a wider one becomes a block per row, whose first line is the
name alone. Where the output is a file or a pipe, a table is as wide as it has to be.
"""

from collections.abc import Collection, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from common.utils.names import printable

WIDEST = 10_000
NOTHING = ("", "–")  # cells that a block leaves out


def show_table(
    console: Console,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    numbers: Collection[str] = (),
) -> None:
    """Print `rows` under `heads`; the first column names a row, those in `numbers` stand to the
    right. Texts are shown as they are, in one line each: markup and control characters too."""
    cells = [[printable(cell) for cell in row] for row in rows]
    table = Table(
        title=escape(printable(title)) or None,
        title_style="bold",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for number, head in enumerate(heads):
        table.add_column(
            head,
            justify="right" if head in numbers else "left",
            style="" if number else "bold",
            no_wrap=True,
        )
    for row in cells:
        table.add_row(*map(escape, row))
    if title:
        console.print()
    unbounded = console.options.update(width=WIDEST)
    width = Measurement.get(console, unbounded, table).maximum
    if width <= console.width:
        console.print(table)
        return
    if not console.is_terminal:
        Console(file=console.file, width=width).print(table)
        return
    if title:
        _line(console, title, "bold")
    for row in cells:
        _line(console, row[0], "bold")
        rest = [
            f"{head} {cell}"
            for head, cell in zip(heads[1:], row[1:], strict=True)
            if cell not in NOTHING
        ]
        for part in _packed(rest, console.width - 2):
            _line(console, f"  {part}")


def _packed(parts: Sequence[str], width: int) -> list[str]:
    """As many parts to a line as `width` allows; a longer one has a line of its own."""
    lines: list[str] = []
    for part in parts:
        joined = f"{lines[-1]} · {part}" if lines else part
        if lines and len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def _line(console: Console, text: str, style: str = "") -> None:
    """A line that the terminal folds, if it has to: no break is in it."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
