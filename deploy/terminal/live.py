"""The line that says what a run is doing: stage and step, sites that have answered, seconds.

On a terminal it stands below all else and is replaced; where the output goes to a file or a pipe, a
line of it is printed now and then. It is read from the run's folder alone, so that it is the same
for every engine and on every machine that sees the folder.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from common.protocol.exchanges import EXCHANGES
from common.record.reader import Follower
from server.run.progress import FILE, JOIN, WAIT, Progress, read_progress

A_SECOND = 2.0  # how often the line is renewed
NOW_AND_THEN = 30.0  # seconds between two lines where each stays
STARTING = "starting the server's part of the run"
DOING = {
    JOIN: "waiting for sites to join",
    WAIT: "waiting for sites to come back",
    **{kind: exchange.doing for kind, exchange in EXCHANGES.items()},
}
"""Words for the kinds of exchange; a kind without any is called by its name."""


def describe(now: Progress | None, seconds: float) -> str:
    """What goes on, as one line; `seconds` since it began."""
    if now is None:
        return f"{STARTING} · {duration(seconds)}"
    doing = DOING.get(now.kind, now.kind) + (f", step {now.step}" if now.step else "")
    if now.round:
        doing = f"round {now.round} of {now.rounds}, {doing}"
    stage = f"{now.stage}: " if now.stage else ""
    verb = "are there" if now.kind in (JOIN, WAIT) else "have answered"
    return f"{stage}{doing} · {now.answered} of {now.asked} sites {verb} · {duration(seconds)}"


def duration(seconds: float) -> str:
    """ "7 s", "2 min 5 s", "1 h 3 min"."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Line:
    """What there is to say of the run in `folder`. What a run that was killed has left in the
    folder is not believed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun = time.time()
        self._left = self._stamp()
        self._seen = False

    def __call__(self) -> str:
        """The line as of now; "" where the run has ended."""
        self._seen |= self._stamp() != self._left
        if not self._seen:
            return describe(None, time.time() - self._begun)
        now = read_progress(self._folder)
        return describe(now, max(0.0, time.time() - now.since)) if now else ""

    def _stamp(self) -> tuple[int, int]:
        try:
            found = (self._folder / FILE).stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns


@contextmanager
def live_line(folder: Path, console: Console) -> Iterator[None]:
    """Show the line of the run in `folder` while the body works."""
    line = Line(folder)
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(
            get_renderable=lambda: Text(line(), "dim", no_wrap=True, overflow="ellipsis"),
            console=console,
            refresh_per_second=A_SECOND,
            transient=True,
        ):
            yield
        return
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(line, folder, console, over), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _tell(line: Callable[[], str], folder: Path, console: Console, over: threading.Event) -> None:
    """Print the line every so often, but not where a round or a stage has been printed since."""
    news = Follower(folder)
    while not over.wait(NOW_AND_THEN):
        printed, said = list(news.events()), line()
        if said and not printed:
            console.print(said, style="dim", highlight=False, markup=False, soft_wrap=True)
