"""TensorBoard event files of a run, without torch: every number of a round or a stage as a scalar,
with what it means.

One file per run, appended to record by record, so that a server that was killed and started again
goes on in the same file. What is true of the model after round r stands at step r: a round's losses
at its own number, the figures of the model that it received one step earlier.
"""

import io
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tensorboard.compat.proto.event_pb2 import Event as Record
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.summary.writer.record_writer import RecordWriter

from common.record.metrics import COSTS, FIGURES
from common.record.schema import Event, RoundEvent, StageEvent

FILE = "events.out.tfevents.0000000000.covey"  # TensorBoard knows its files by this prefix
VERSION = "brain.Event:2"
HEADER, FOOTER = 12, 4  # bytes: length and its checksum before a record, checksum after it


class Scalar(NamedTuple):
    """A number under its tag; `about`: what it means."""

    tag: str
    value: float
    about: str


class Events:
    """Writes a run's events into `folder`, which is made where it is not there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        self._step = _go_to_end(self._file)
        self._told: set[str] = set()
        if self._file.tell() == 0:
            self._append(Record(file_version=VERSION))

    def write(self, event: Event) -> None:
        """Write the numbers of a round or of a stage's end; other events, and values that are not
        finite numbers, are passed over."""
        if isinstance(event, RoundEvent):
            number = event.round
            if number <= self._step:  # a resumed run does it again: what stood there is void
                start = SessionLog(status=SessionLog.START)
                self._append(Record(wall_time=event.time, step=number, session_log=start))
            self._scalars(event.time, number - 1, _figures("received", event.received))
            self._scalars(event.time, number, _round_scalars(event))
        elif isinstance(event, StageEvent):
            self._scalars(event.time, event.round, _stage_scalars(event))

    def close(self) -> None:
        """Close the file; everything written is in it already."""
        self._file.close()

    def _scalars(self, wall_time: float, step: int, scalars: Iterable[Scalar]) -> None:
        values = [self._value(scalar) for scalar in scalars if math.isfinite(scalar.value)]
        if values:
            self._append(Record(wall_time=wall_time, step=step, summary=Summary(value=values)))
            self._step = max(self._step, step)

    def _value(self, scalar: Scalar) -> Any:
        """Its meaning goes with a tag's first value: TensorBoard takes it from there."""
        if scalar.tag in self._told:
            return Summary.Value(tag=scalar.tag, simple_value=scalar.value)
        self._told.add(scalar.tag)
        about = SummaryMetadata(summary_description=scalar.about)
        return Summary.Value(tag=scalar.tag, simple_value=scalar.value, metadata=about)

    def _append(self, event: Any) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._file.write(record.getvalue())
        self._file.flush()


def _go_to_end(file: BinaryIO) -> int:
    """Drop a record cut short by a kill, stand behind the last whole one; its step (-1: none)."""
    size = file.seek(0, os.SEEK_END)
    end, last = 0, b""
    while end + HEADER <= size:
        file.seek(end)
        (length,) = struct.unpack("<Q", file.read(HEADER)[:8])
        if end + HEADER + length + FOOTER > size:
            break
        file.seek(end)
        last = file.read(HEADER + length)[HEADER:]
        end += HEADER + length + FOOTER
    file.truncate(end)
    file.seek(end)
    event = Record.FromString(last)
    return int(event.step) if event.HasField("summary") else -1


def _round_scalars(event: RoundEvent) -> Iterator[Scalar]:
    for term, value in event.loss.items():
        yield Scalar(f"loss/{term}", value, COSTS["loss"].about)
    for name in ("answered", "missing", "refused"):
        yield Scalar(f"sites/{name}", len(getattr(event, name)), COSTS[name].about)
    yield from _costs(event, "")


def _stage_scalars(event: StageEvent) -> Iterator[Scalar]:
    yield from _figures("stage", event.figures)
    yield from _costs(event, "stage_")


def _figures(group: str, values: Mapping[str, float]) -> Iterator[Scalar]:
    for key, value in values.items():
        yield Scalar(f"{group}/{key}", value, FIGURES[key].about)


def _costs(event: RoundEvent | StageEvent, group: str) -> Iterator[Scalar]:
    for phase, value in event.seconds.items():
        yield Scalar(f"{group}seconds/{phase}", value, COSTS["seconds"].about)
    yield Scalar(f"{group}bytes/down", event.bytes_down, COSTS["bytes_down"].about)
    yield Scalar(f"{group}bytes/up", event.bytes_up, COSTS["bytes_up"].about)
