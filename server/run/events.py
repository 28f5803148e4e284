"""TensorBoard event files of a run, without torch: every number of a round or a stage as a scalar.

One file per run, appended to record by record, so that a server that was killed and started again
goes on in the same file. What is true of the model after round r stands at step r: a round's losses
at its own number, the figures of the model that it received one step earlier.
"""

import io
import math
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

FILE = "events.out.tfevents.0000000000.covey"  # TensorBoard knows its files by this prefix
VERSION = "brain.Event:2"
HEADER, FOOTER = 12, 4  # bytes: length and its checksum before a record, checksum after it

Scalars = dict[str, float]


class Events:
    """Writes a run's events into `folder`, which is made where it is not there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        self._step = _go_to_end(self._file)
        if self._file.tell() == 0:
            self._append(Event(file_version=VERSION))

    def write(self, event: Mapping[str, Any]) -> None:
        """Write the numbers of one line of `metrics.jsonl`; other events than rounds and stages,
        and values that are not finite numbers, are passed over."""
        wall_time = float(event.get("time", 0.0))
        if event.get("event") == "round":
            number = int(event["round"])
            if number <= self._step:  # a resumed run does it again: what stood there is void
                start = SessionLog(status=SessionLog.START)
                self._append(Event(wall_time=wall_time, step=number, session_log=start))
            self._scalars(wall_time, number - 1, _flat("received", event.get("received", {})))
            self._scalars(wall_time, number, _round_scalars(event))
        elif event.get("event") == "stage":
            self._scalars(wall_time, int(event["round"]), _stage_scalars(event))

    def close(self) -> None:
        """Close the file; everything written is in it already."""
        self._file.close()

    def _scalars(self, wall_time: float, step: int, scalars: Scalars) -> None:
        if not scalars:
            return
        values = [Summary.Value(tag=tag, simple_value=number) for tag, number in scalars.items()]
        self._append(Event(wall_time=wall_time, step=step, summary=Summary(value=values)))
        self._step = max(self._step, step)

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
    event = Event.FromString(last)
    return int(event.step) if event.HasField("summary") else -1


def _round_scalars(event: Mapping[str, Any]) -> Scalars:
    return {
        **_flat("loss", event.get("loss", {})),
        **_flat("seconds", event.get("seconds", {})),
        **_flat("bytes", {k: event.get(f"bytes_{k}") for k in ("down", "up")}),
        **_flat("sites", {k: len(event.get(k, ())) for k in ("answered", "missing", "refused")}),
    }


def _stage_scalars(event: Mapping[str, Any]) -> Scalars:
    about = ("stage", "round", "time", "bytes_down", "bytes_up")
    return {
        **_flat("stage", {name: value for name, value in event.items() if name not in about}),
        **_flat("stage_seconds", event.get("seconds", {})),
        **_flat("stage_bytes", {k: event.get(f"bytes_{k}") for k in ("down", "up")}),
    }


def _flat(group: str, values: Mapping[str, Any]) -> Scalars:
    return {f"{group}/{name}": number for name, number in _numbers(values)}


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isfinite(value):
            yield name, float(value)
