"""The one writer of a run's record: `run.json` is replaced whole, `metrics.jsonl` is appended to
line by line, so that a kill at any moment leaves files that the reader reads."""

import time
from collections.abc import Callable
from pathlib import Path

from common.record.data_map import DataMap
from common.record.reader import EVENTS, MAP, PIXELS, SETTINGS, Damaged, lines
from common.record.schema import Event, PixelBaseline, Run
from common.utils.files import append_line, write_atomic


def write_settings(folder: Path, run: Run) -> None:
    """Replace `run.json`."""
    write_atomic(folder / SETTINGS, run.to_json().encode())


def append_event(folder: Path, event: Event) -> Event:
    """Append `event` with the time of now to `metrics.jsonl`; what was written."""
    written = event.model_copy(update={"time": round(time.time(), 3)})
    append_line(folder / EVENTS, written.to_json())
    return written


def take_back(folder: Path, is_late: Callable[[Event], bool]) -> None:
    """Drop the events that `is_late` says are to come again. A damaged line stays: what it said is
    not known."""
    path = folder / EVENTS
    if not path.exists():
        return
    kept = [
        line + b"\n"
        for line, read in lines(folder)
        if isinstance(read, Damaged) or not is_late(read)
    ]
    write_atomic(path, b"".join(kept))


def write_map(folder: Path, drawn: DataMap) -> None:
    """Replace `map.json`."""
    write_atomic(folder / MAP, drawn.to_json().encode())


def write_pixels(folder: Path, baseline: PixelBaseline) -> None:
    """Replace `pixels.json`."""
    write_atomic(folder / PIXELS, baseline.model_dump_json().encode())
