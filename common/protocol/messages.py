"""What crosses the wire: typed messages, and the only place that knows Flower's record keys.

server -> site: `Instruction`. site -> server: `Reply`. Each is a frozen dataclass of numpy arrays
with `to_record` / `from_record`; `from_record` checks presence, dtype, number of dimensions and
finiteness, and raises `MessageError` with one line that names the part. Sizes are compared with
the model's layout by whoever has built the model. Arrays travel as Flower's `Array` (numpy's own
format, never pickled). Imports no torch: the client's shim reads this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from flwr.app import Array, ConfigRecord, RecordDict
from numpy.typing import NDArray

from common.clustering.centroids import Centroids
from common.config.options import Plan
from common.protocol import records
from common.protocol.compact import Half, compactable, halved, put_halves, read_halves
from common.protocol.declaration import Exchange
from common.protocol.exchanges import EXCHANGES
from common.protocol.packing import Packed, put_packed, read_packed, unpack
from common.protocol.records import HEADER, MessageError, decode, encode, put_arrays

__all__ = ["Instruction", "Kind", "MessageError", "Reply", "decode", "encode", "wire_size"]

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]
Groups = Mapping[str, Floats]

Kind = str
"""What a site is asked for: the name of one of `EXCHANGES` (common/protocol/exchanges.py)."""

MOST_CLASSES = 10_000  # over all sites
NEEDS_MODEL = "the site does not remember this state: send the model"
"""How a site asks for the groups that a message leaves out; no other refusal is asked again."""
ALL = -1
"""An instruction's `within` that leaves no image out."""
NOT_TAKEN = "the server does not take this site into its run"
"""How a site's log says that it was refused; what the server's reason follows."""


@dataclass(frozen=True)
class Instruction:
    """What the server asks of a site.

    `round` counts training rounds over all stages from 1, `stage` the plan's stages from 0.
    `step` counts exchanges of one kind that belong together, from 1; 0 where there is one.
    `centroids` are the global ones so far, or with `lloyd` those to count by. `layout` is the
    digest that the site's own model must have, `state` that of all groups: a message without them
    is about a state that the site has embedded its images with before, and `train` may bring what
    was prepared alone. `steps`: of a synchronous stage, in how many a pass over all sites' images
    is made; `changes`: what its step before has added to the groups that the site has, in few bits.
    `probe` is (d + 1, C): weights and a last row of biases. `refusal`, with `hello`: why the server
    does not take the site into the run. `learned`, with `deliver`: what is known of the model
    beside its numbers (`common/learned/facts.py`). `sets`: how many clusters each set of centroids
    has, or the site's own are to be, where those are not the plan's; `within`: only the images of
    this cluster of the first set are meant (-1: all). `about`, with `unlearn` and `recall`: what
    becomes of images that were taken back, from which run. `weights`: part `step` of a file.
    """

    kind: Kind
    run: str
    round: int
    plan: Plan
    stage: int = 0
    layout: str = ""
    state: str = ""
    groups: Groups = field(default_factory=dict)
    centroids: Centroids | None = None
    probe: Floats | None = None
    classes: tuple[str, ...] = ()
    step: int = 0
    steps: int = 0
    refusal: str = ""
    learned: str = ""
    about: str = ""
    sets: tuple[int, ...] = ()
    within: int = ALL
    changes: Mapping[str, Packed] = field(default_factory=dict)
    weights: NDArray[np.uint8] | None = None

    @property
    def clusters(self) -> int:
        """How many clusters it is about."""
        return self.sets[0] if self.sets else self.plan.clusters

    @property
    def asked(self) -> str:
        """What a solver calls this exchange (`Solver.statistics`): "moments", "patches.2"."""
        numbered = self.step and self.exchange.solves and not self.exchange.goes_on
        return f"{self.kind}.{self.step}" if numbered else self.kind

    @property
    def exchange(self) -> Exchange:
        """What is declared of this kind."""
        return EXCHANGES[self.kind]

    def to_record(self) -> RecordDict:
        """As Flower's RecordDict."""
        record = RecordDict()
        record[HEADER] = ConfigRecord(
            {
                "kind": self.kind,
                "run": self.run,
                "round": self.round,
                "stage": self.stage,
                "step": self.step,
                "steps": self.steps,
                "plan": self.plan.to_json(),
                "layout": self.layout,
                "state": self.state,
                "classes": list(self.classes),
                "refusal": self.refusal,
                "learned": self.learned,
                "sets": list(self.sets),
                "within": self.within,
                "about": self.about,
            }
        )
        put_arrays(record, "groups", self.groups)
        put_packed(record, self.changes)
        _put_centroids(record, self.centroids)
        if self.probe is not None:
            put_arrays(record, "probe", {"weights": self.probe})
        if self.weights is not None:
            put_arrays(record, "weights", {"part": self.weights})
        return record

    @classmethod
    def from_record(cls, record: RecordDict) -> "Instruction":
        """Read and check; `MessageError` says what does not fit."""
        header = records.header(record)
        probe = records.arrays(record, "probe", np.float32, 2)
        return cls(
            kind=_kind(header),
            run=records.get(header, "run", str),
            round=records.get(header, "round", int),
            plan=Plan.from_json(records.get(header, "plan", str)),
            stage=records.get(header, "stage", int),
            step=records.get(header, "step", int),
            steps=records.get(header, "steps", int),
            layout=records.get(header, "layout", str),
            state=records.get(header, "state", str),
            groups=records.arrays(record, "groups", np.float32, 1),
            changes=read_packed(record),
            centroids=_centroids(record),
            probe=probe.get("weights"),
            classes=records.get_strings(header, "classes"),
            refusal=records.get(header, "refusal", str),
            learned=records.get(header, "learned", str),
            sets=records.get_numbers(header, "sets"),
            within=records.get(header, "within", int),
            about=records.get(header, "about", str),
            weights=records.arrays(record, "weights", np.uint8, 1).get("part"),
        )


@dataclass(frozen=True)
class Reply:
    """What a site answers.

    `examples` is the number of images behind `groups`. Those in `packed` travel in fewer bits, and
    arrive as `groups`. `tables`, `vectors` and `moments` are the
    sums that the kind declares: counts, and float64 of one and of two dimensions. `halves`: of
    those moments that travel in fewer bytes (`common/protocol/compact.py`). `sums` are single
    numbers that are added up, `seconds` wall time by phase, `info` what `hello` tells.
    """

    kind: Kind
    site: str
    round: int
    examples: int = 0
    layout: str = ""
    groups: Groups = field(default_factory=dict)
    centroids: Centroids | None = None
    tables: Mapping[str, Counts] = field(default_factory=dict)
    moments: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    vectors: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    halves: Mapping[str, Half] = field(default_factory=dict)
    sums: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    info: Mapping[str, str | int | list[str] | list[int]] = field(default_factory=dict)
    packed: Mapping[str, Packed] = field(default_factory=dict)

    @property
    def exchange(self) -> Exchange:
        """What is declared of this kind."""
        return EXCHANGES[self.kind]

    def in_halves(self, wire: str) -> "Reply":
        """The same with its symmetric moments as halves, in what the stage's `wire` says."""
        which = compactable(self.exchange) & self.moments.keys()
        halves = {name: halved(self.moments[name], wire) for name in sorted(which)}
        left = {name: array for name, array in self.moments.items() if name not in which}
        return replace(self, moments=left, halves=halves)

    def to_record(self) -> RecordDict:
        """As Flower's RecordDict."""
        record = RecordDict()
        record[HEADER] = ConfigRecord(
            {
                "kind": self.kind,
                "site": self.site,
                "round": self.round,
                "examples": int(self.examples),
                "layout": self.layout,
            }
        )
        record["sums"] = ConfigRecord({k: float(v) for k, v in self.sums.items()})
        record["seconds"] = ConfigRecord({k: float(v) for k, v in self.seconds.items()})
        record["info"] = ConfigRecord(cast(dict[str, Any], dict(self.info)))
        put_arrays(record, "groups", self.groups)
        put_packed(record, self.packed)
        _put_centroids(record, self.centroids)
        put_arrays(record, "tables", self.tables)
        put_arrays(record, "vectors", self.vectors)
        put_arrays(record, "moments", self.moments)
        put_halves(record, self.halves)
        return record

    @classmethod
    def from_record(cls, record: RecordDict) -> "Reply":
        """Read and check; `MessageError` says what does not fit."""
        header = records.header(record)
        tables = records.arrays(record, "tables", np.int64, 2)
        for name, table in tables.items():
            if (table < 0).any():
                raise MessageError(f"tables.{name}: negative counts")
        return cls(
            kind=_kind(header),
            site=records.get(header, "site", str),
            round=records.get(header, "round", int),
            examples=records.get(header, "examples", int),
            layout=records.get(header, "layout", str),
            groups=_groups(record),
            centroids=_centroids(record),
            tables=tables,
            moments=records.arrays(record, "moments", np.float64, 2),
            halves=read_halves(record),
            vectors=records.arrays(record, "vectors", np.float64, 1),
            sums=records.floats(record, "sums"),
            seconds=records.floats(record, "seconds"),
            info=cast(dict[str, Any], dict(records.config(record, "info"))),
        )


def wire_size(record: RecordDict) -> int:
    """Bytes of a record's arrays and of its text and byte values: what it costs on the wire, but
    for Flower's envelope."""
    size = 0
    for part in record.values():
        for value in part.values():
            if isinstance(value, Array):
                size += len(value.data)
            elif isinstance(value, str | bytes):
                size += len(value)
            else:
                size += 8 * len(value) if isinstance(value, list) else 8
    return size


def _groups(record: RecordDict) -> dict[str, Floats]:
    """A reply's groups, those that were packed among them."""
    found: dict[str, Floats] = records.arrays(record, "groups", np.float32, 1)
    for name, packed in read_packed(record).items():
        if name in found:
            raise MessageError(f"groups.{name}: twice")
        found[name] = unpack(packed)
    return found


def _put_centroids(record: RecordDict, centroids: Centroids | None) -> None:
    if centroids is not None:
        put_arrays(record, "centroids", {"points": centroids.points})
        put_arrays(record, "counts", {"counts": centroids.counts})


def _centroids(record: RecordDict) -> Centroids | None:
    points = records.arrays(record, "centroids", np.float32, 2).get("points")
    counts = records.arrays(record, "counts", np.int64, 1).get("counts")
    if points is None and counts is None:
        return None
    if points is None or counts is None:
        raise MessageError("centroids: points without counts, or counts without points")
    if (counts < 0).any():
        raise MessageError("centroids: negative counts")
    try:
        return Centroids(points, counts)
    except ValueError as error:
        raise MessageError(str(error)) from None


def _kind(header: Mapping[str, Any]) -> Kind:
    kind = records.get(header, "kind", str)
    if kind not in EXCHANGES:
        raise MessageError(f"header.kind: unknown kind {kind!r}")
    return kind
