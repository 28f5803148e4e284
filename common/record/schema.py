"""The schema of a run's record.

`run.json` is a `Run`: everything that decides the result, and who took part. A line of
`metrics.jsonl` is an `Event`. Both say the version of their format. What is not a finite number is
`null` in the files and NaN here: a training that diverges is still valid JSON.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
)

from common.config.options import Plan
from common.record.account import COUNTS, in_words
from common.record.base import (
    FORMAT,
    Counts,
    Figures,
    Held,
    Number,
    Part,
    RecordedEvent,
)
from common.record.follow_up import FollowUp
from common.record.forgetting import Forgetting
from common.record.later import ChoiceEvent, NamesEvent, RecalledEvent, SplitEvent

__all__ = [
    "EVENT", "FORMAT", "Change", "ChoiceEvent", "Counts", "DeliveredEvent", "Event",
    "Figures", "FileCounts", "KeptState", "NamesEvent", "NoteEvent", "Number", "PixelBaseline",
    "RecalledEvent",
    "ResumedEvent", "RoundEvent", "Run", "SiteFacts", "SplitEvent", "Spread", "StageEvent",
    "UnlearnedEvent", "WarningEvent",
]  # fmt: skip


class FileCounts(Part):
    """What became of the files of a folder (`common/record/account.py`)."""

    used: NonNegativeInt = 0
    copies: NonNegativeInt = 0
    unreadable: NonNegativeInt = 0
    too_large: NonNegativeInt = 0
    duplicates: NonNegativeInt = 0
    links: NonNegativeInt = 0
    other: NonNegativeInt = 0
    hidden: NonNegativeInt = 0
    undrawn: NonNegativeInt = 0

    @classmethod
    def of(cls, counts: Sequence[int]) -> Self:
        """Of the numbers that `Account.counts` gives."""
        return cls(**dict(zip(COUNTS, counts, strict=True)))

    @property
    def text(self) -> str:
        """In words; "" where every file is used."""
        return in_words([getattr(self, name) for name in COUNTS])


class SiteFacts(Part):
    """What a site said of itself when it was greeted. `fingerprint`: of its images; `window`: what
    its pictures of more than 8 bits were given; `files`: what became of its files; `withdrawn`: how
    many images it has taken back, in all; `names`: what it offers to call the run's clusters."""

    examples: NonNegativeInt
    channels: PositiveInt | None = None
    side: PositiveInt | None = None
    kind: str | None = None
    fingerprint: str | None = None
    device: str | None = None
    python: str | None = None
    torch: str | None = None
    window: str | None = None
    files: FileCounts | None = None
    withdrawn: NonNegativeInt | None = None
    names: tuple[str, ...] | None = None

    @property
    def shape(self) -> str:
        """Channels × height × width of its images."""
        return f"{self.channels}×{self.side}×{self.side}"


class Spread(Part):
    """The partition that a local federation runs on: images of each site in `sizes`."""

    spec: str
    hash: str
    sizes: Counts


class KeptState(Part):
    """A state that the run has kept (`server/run/kept.py`): after training round `round`, when
    `closed` stages had ended. `before`: sites that came for the first time when it was the latest;
    `trained`: it is the one after all training."""

    round: NonNegativeInt
    closed: NonNegativeInt
    before: tuple[str, ...] = ()
    trained: bool = False


class Run(Part):
    """`run.json`. `plan`: the options of the run, as its JSON has them; `settled`: those of them
    that the sites' classes decided, since the plan left them open; `parameters`: numbers in what
    the last stage shares; `files`: of the folder that the sites of a local federation share;
    `kept`: states on its way; `forgetting`: what it was made without; `follow_up`: what it asks of
    an earlier one; `superseded`: the run that was made in its place."""

    format: Literal[1] = FORMAT
    id: str
    created: str
    recipe: str
    engine: str
    status: Literal["running", "finished", "failed"]
    plan: Mapping[str, Any]
    settled: tuple[str, ...] = ()
    versions: dict[str, str]
    sites: dict[str, SiteFacts]
    classes: tuple[str, ...]
    parameters: NonNegativeInt
    partition: Spread | None = None
    files: FileCounts | None = None
    kept: tuple[KeptState, ...] | None = None
    forgetting: Forgetting | None = None
    follow_up: FollowUp | None = None
    superseded: str | None = None
    ended: str | None = None
    reason: str | None = None

    @property
    def withdrawn(self) -> dict[str, int]:
        """Site -> how many images it had taken back in all when the run began: as real sites say
        themselves; else, and of those that have left, as the runs before it had noted."""
        told = {} if self.forgetting is None else self.forgetting.in_all
        if self.partition is None:
            told |= {name: facts.withdrawn or 0 for name, facts in self.sites.items()}
        return {name: count for name, count in sorted(told.items()) if count}

    def settings(self) -> Plan:
        """The plan; `UserError` where this version of Covey does not know one of its options."""
        return Plan.from_json(json.dumps(dict(self.plan)))

    def to_json(self) -> str:
        """As the file has it."""
        return self.model_dump_json(indent=2, exclude_none=True)


class _Exchanged(Held):
    """Those of a stage."""

    stage: NonNegativeInt
    stage_name: str
    cluster_sizes: Counts


class RoundEvent(_Exchanged):
    """A training round: `received` are the figures of the model that the sites received, which is
    the one after the round before; `loss`: term -> mean over the images that were trained on."""

    event: Literal["round"] = "round"
    stage_round: PositiveInt
    loss: dict[str, Number]
    received: Figures


class StageEvent(_Exchanged):
    """The end of a stage: the figures of its final model. `by`: what assigns images to clusters;
    `table`: counts (K, C) of images by cluster and class, of the `labelled` sites that have
    labels."""

    event: Literal["stage"] = "stage"
    by: Literal["centroids", "head"]
    figures: Figures
    table: tuple[Counts, ...] | None = None
    labelled: NonNegativeInt | None = None


class UnlearnedEvent(Held):
    """The sites that take images back have unlearned them, by the method that the run's record
    names: those that `answered`."""

    event: Literal["unlearned"] = "unlearned"

    @property
    def text(self) -> str:
        """In words."""
        names = ", ".join(self.answered)
        return f"unlearned at {names}, {self.seconds['total']:.1f} s; trained on by all from here"


class DeliveredEvent(Held):
    """The run has ended and its sites receive the model: those that `answered` have it."""

    event: Literal["delivered"] = "delivered"
    bytes_down: NonNegativeInt = 0
    bytes_up: NonNegativeInt = 0
    seconds: dict[str, Number] = Field(default_factory=dict)

    @property
    def text(self) -> str:
        """In words: which sites have the model, and which do not."""
        without = sorted({*self.missing, *self.refused})
        told = f"{len(self.answered)} of {len(self.answered) + len(without)} sites have the model"
        if not without:
            return told
        names = ", ".join(without)
        return f"{told}; not {names}: `covey submit --resume RUN` hands it over when they are there"


class WarningEvent(RecordedEvent):
    """Something that the coordinator should know; the run goes on."""

    event: Literal["warning"] = "warning"
    text: str


class NoteEvent(RecordedEvent):
    """Something that was decided while the run went on."""

    event: Literal["note"] = "note"
    text: str


class Change(Part):
    """What is not as it was when the run was stopped: of `site` ("": of the federation), `what`,
    before and now (None: not there)."""

    site: str = ""
    what: str
    before: str | int | None = None
    now: str | int | None = None

    @property
    def text(self) -> str:
        """In words: "images 120 → 90"."""
        if self.before is None or self.now is None:
            return f"{self.what} {self.now if self.before is None else self.before}"
        return f"{self.what} {self.before} → {self.now}"


class ResumedEvent(RecordedEvent):
    """The run was stopped, and goes on after `round`; `anew`: it had no checkpoint, so that its
    record was written anew."""

    event: Literal["resumed"] = "resumed"
    changes: tuple[Change, ...] = ()
    anew: bool = False

    @property
    def text(self) -> str:
        """What has changed since, site by site, in a line."""
        sites: dict[str, list[str]] = {}
        for change in self.changes:
            sites.setdefault(change.site or "federation", []).append(change.text)
        told = "; ".join(f"{site}: {', '.join(parts)}" for site, parts in sites.items())
        how = "begun anew, before the first round" if self.anew else "gone on with"
        return f"{how}, and changed since it was stopped: {told}" if told else how


Event = (
    RoundEvent
    | StageEvent
    | SplitEvent
    | ChoiceEvent
    | NamesEvent
    | UnlearnedEvent
    | RecalledEvent
    | DeliveredEvent
    | WarningEvent
    | NoteEvent
    | ResumedEvent
)
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


class PixelBaseline(Part):
    """`pixels.json`: figures from labels of k-means on pixels, over so many `images` of a local
    federation, pooled."""

    images: PositiveInt
    figures: Figures
