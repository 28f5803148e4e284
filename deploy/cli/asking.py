"""What a command says before it does something, and whether it may."""

from typing import Annotated

import typer
from rich.console import Console

console = Console()
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="do it without asking")]


def confirm(lines: list[str], yes: bool) -> None:
    """Say what is to be done, and ask whether it is; ends the command where not."""
    for line in lines:
        say(line)
    if not yes:
        typer.confirm("go on?", abort=True)


def say(text: str) -> None:
    """Say it as it is, on one line however long."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
