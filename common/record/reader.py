"""The one reader of a run's record.

It forgives what a kill leaves behind: a last line that is cut, a round that a resumed run did
twice. A damaged line costs that line alone, and is told in one line of its own.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from common.record.data_map import DataMap
from common.record.earlier import Document, event_of_today, run_of_today
from common.record.schema import (
    EVENT,
    DeliveredEvent,
    Event,
    NamesEvent,
    NoteEvent,
    PixelBaseline,
    ResumedEvent,
    RoundEvent,
    Run,
    StageEvent,
    UnlearnedEvent,
    WarningEvent,
)
from common.utils.errors import UserError, plain
from common.utils.files import Tail

SETTINGS, EVENTS, MAP = "run.json", "metrics.jsonl", "map.json"
PIXELS = "pixels.json"

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Damaged:
    """A line that is no event, and what is wrong with it."""

    text: str


@dataclass(frozen=True)
class RunRecord:
    """All that a run's folder tells. Rounds and stages are in order, each once, as last written;
    `damaged`: what could not be read, a line each; `map`: of the embeddings, `pixels`:
    what k-means on pixels gets, where there is one."""

    run: Run
    events: tuple[Event, ...] = ()
    map: DataMap | None = None
    damaged: tuple[str, ...] = ()
    pixels: PixelBaseline | None = None

    @cached_property
    def rounds(self) -> tuple[RoundEvent, ...]:
        """The training rounds."""
        found = {e.round: e for e in self.events if isinstance(e, RoundEvent)}
        return tuple(found[number] for number in sorted(found))

    @cached_property
    def stages(self) -> tuple[StageEvent, ...]:
        """The stages that have ended."""
        found = {e.stage: e for e in self.events if isinstance(e, StageEvent)}
        return tuple(found[number] for number in sorted(found))

    @cached_property
    def unlearned(self) -> tuple[UnlearnedEvent, ...]:
        """That sites have unlearned what they take back."""
        return tuple(e for e in self.events if isinstance(e, UnlearnedEvent))

    @cached_property
    def delivered(self) -> DeliveredEvent | None:
        """Which sites have got the model, as far as it was handed over."""
        found = [e for e in self.events if isinstance(e, DeliveredEvent)]
        return found[-1] if found else None

    @cached_property
    def named(self) -> NamesEvent | None:
        """What the coordinator has called the clusters last, after the run."""
        found = [e for e in self.events if isinstance(e, NamesEvent)]
        return found[-1] if found else None

    @cached_property
    def up_to_date(self) -> tuple[str, ...]:
        """The sites that have the model with the names that its clusters have now."""
        have: tuple[str, ...] = ()
        for event in self.events:
            if isinstance(event, DeliveredEvent):
                have = event.answered
            elif isinstance(event, NamesEvent):
                have = ()
        return have

    @cached_property
    def warnings(self) -> tuple[WarningEvent, ...]:
        """What the coordinator was warned of."""
        return tuple(e for e in self.events if isinstance(e, WarningEvent))

    @cached_property
    def notes(self) -> tuple[NoteEvent, ...]:
        """What was decided while it went on, the last of each round and text."""
        found = {(e.round, e.text): e for e in self.events if isinstance(e, NoteEvent)}
        return tuple(found.values())

    @cached_property
    def resumed(self) -> tuple[ResumedEvent, ...]:
        """Each time that the run went on after it was stopped."""
        return tuple(e for e in self.events if isinstance(e, ResumedEvent))


def has_run(folder: Path) -> bool:
    """Whether a run has begun in the folder."""
    return (folder / SETTINGS).exists()


def read_settings(folder: Path) -> Run:
    """`run.json` of the folder; `UserError` where it is missing or damaged."""
    path = folder / SETTINGS
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} holds no run: there is no {SETTINGS}") from None
    except ValueError:
        raise UserError(f"{path} is damaged: it is no text") from None
    try:
        return _parsed(text, run_of_today, Run.model_validate)
    except UserError as error:
        raise UserError(f"{path} is damaged: {error}") from None


def read_run(folder: Path) -> RunRecord:
    """Read a run's folder; `UserError` where its `run.json` is missing or damaged."""
    run = read_settings(folder)
    found, damaged = read_events(folder)
    beside: dict[str, Any] = {}
    for name, kind in ((MAP, DataMap), (PIXELS, PixelBaseline)):
        try:
            beside[name] = _read_beside(folder / name, kind)
        except UserError as error:
            damaged = [*damaged, f"{name} is damaged: {error}"]
    drawn, pixels = beside.get(MAP), beside.get(PIXELS)
    return RunRecord(run, tuple(found), drawn, tuple(damaged), pixels)


def read_events(folder: Path) -> tuple[list[Event], list[str]]:
    """The events of a run in the order of the file, and what is wrong with lines that are none."""
    found: list[Event] = []
    damaged: list[str] = []
    for _, read in lines(folder):
        if isinstance(read, Damaged):
            damaged.append(read.text)
        else:
            found.append(read)
    return found, damaged


def lines(folder: Path) -> Iterator[tuple[bytes, Event | Damaged]]:
    """Each line of `metrics.jsonl` with what it says; not a last one that a kill has cut."""
    path = folder / EVENTS
    if not path.exists():
        return
    whole = path.read_bytes().split(b"\n")
    for number, line in enumerate(whole, start=1):
        read = _event(line, f"{EVENTS}, line {number}")
        cut = number == len(whole) and isinstance(read, Damaged)
        if line and not cut:
            yield line, read


class Follower:
    """Reads the events that are new in a run's record, as a live view does. `at_end`: begin with
    what comes from now on, else with what is there."""

    def __init__(self, folder: Path, *, at_end: bool = True) -> None:
        self._tail = Tail(folder / EVENTS, at_end=at_end)

    def events(self) -> Iterator[Event | Damaged]:
        """Those since the last call; all anew where a resumed run took rounds back."""
        for line in self._tail.lines():
            yield _event(line, f"a line of {EVENTS}")


def _event(line: bytes, where: str) -> Event | Damaged:
    try:
        return _parsed(line.decode("utf-8", "replace"), event_of_today, EVENT.validate_python)
    except UserError as error:
        return Damaged(f"{where} is damaged: {error}")


def _read_beside(path: Path, kind: type[Model]) -> Model | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return _parsed(text, dict, kind.model_validate)


def _parsed(
    text: str, raised: Callable[[Document], dict[str, Any]], validate: Callable[[Any], Model]
) -> Model:
    try:
        document = json.loads(text)
    except ValueError:
        raise UserError("it is no JSON") from None
    if not isinstance(document, dict):
        raise UserError("it is no JSON object")
    try:
        return validate(raised(document))
    except ValidationError as error:
        raise UserError(_why(error)) from None


def _why(error: ValidationError) -> str:
    """The first complaint, with where and what was found instead."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    found = "" if isinstance(first["input"], dict) else f" (found {first['input']!r})"
    return plain(f"{where}: {first['msg'].removeprefix('Value error, ')}{found}".lstrip(": "))
