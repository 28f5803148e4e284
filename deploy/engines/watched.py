"""A run in this process, with what happens in it on the terminal."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from common.config.options import Plan
from deploy.engines.simulate import simulate
from deploy.terminal.live import live_line
from deploy.terminal.progress import show_event


def simulate_watched(
    plan: Plan, folder: Path, console: Console, say: Callable[[str], None] = lambda _: None
) -> None:
    """Run the plan in `folder`: a line for each event, and one that says where it is. `say` is told
    what became of the files of its folder of images."""
    with live_line(folder, console):
        simulate(plan, folder, lambda event: show_event(console, event, plan.rounds), say=say)
