"""A run as its folder tells it: what was run, by whom, how each round and stage went."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.record.reader import RunRecord, has_run, read_run
from common.record.schema import RoundEvent, StageEvent
from common.utils.errors import UserError
from common.utils.lock import is_locked

if TYPE_CHECKING:
    from covey._model import Model

Status = Literal["running", "finished", "failed", "stopped"]
REPORT = "report.html"


@dataclass(frozen=True)
class _Exchanged:
    """What a round or the end of a stage took, and who took part.

    `seconds`: wall time at the server; `bytes_down`, `bytes_up`: to and from all sites;
    `answered`, `missing`: names of sites; `refused`: site -> why its answer was not used.
    """

    seconds: float
    bytes_down: int
    bytes_up: int
    answered: tuple[str, ...]
    missing: tuple[str, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class Round(_Exchanged):
    """A training round.

    `number` counts from 1 over all stages; `stage`: the name of its stage; `loss`: term -> mean per
    image; `received`: figures of the model that the sites received, which is the one after the
    round before.
    """

    number: int
    stage: str
    loss: Mapping[str, float]
    received: Mapping[str, float]


@dataclass(frozen=True)
class Stage(_Exchanged):
    """The end of a stage: the figures of its final model.

    `rounds`: how many training rounds it had; `sizes` (K,): images in each cluster; `table` (K, C):
    images by cluster and class, None where no site has labels; `by`: what assigns images to
    clusters, the nearest of the "centroids" or the cluster "head".
    """

    name: str
    rounds: int
    figures: Mapping[str, float]
    sizes: tuple[int, ...]
    table: NDArray[np.int64] | None
    by: str


@dataclass(frozen=True)
class Run:
    """A run: its folder, what was run, and what came of it so far.

    `status`: "stopped" has begun and not ended, and nobody is at work on it; `created`: ISO 8601;
    `options`: every option of the run by its name on the command line, "stages" a list of those of
    each stage; `sites`: name -> number of images; `classes`: names, empty where no site has labels;
    `warnings`: what the coordinator was warned of; `damaged`: what of the record could not be read.
    """

    folder: Path
    recipe: str
    status: Status
    created: str
    options: Mapping[str, Any]
    sites: Mapping[str, int]
    classes: tuple[str, ...]
    rounds: tuple[Round, ...]
    stages: tuple[Stage, ...]
    warnings: tuple[str, ...]
    damaged: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def figures(self) -> Mapping[str, float]:
        """Those of the last stage that has ended, such as "nmi", "acc", "agreement"; none before
        that. docs/researcher/guide.md says what each means."""
        return self.stages[-1].figures if self.stages else {}

    @property
    def report(self) -> Path:
        """The path of `report.html`, which is there when the run has finished."""
        return self.folder / REPORT

    def model(self, device: str = "auto") -> "Model":
        """What the run has learned (`covey.load`)."""
        from covey._model import load  # noqa: PLC0415 (it imports this)

        return load(self, device)


def runs(folder: str | Path = "runs") -> list[Run]:
    """The runs whose folders lie in `folder`, oldest first. Of a server it is `SERVER/runs`.

    `Error` where there is no such folder, or the record of a run in it is damaged.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UserError(f"there is no folder {place}")
    found = [read(path) for path in sorted(place.iterdir()) if has_run(path)]
    return sorted(found, key=lambda run: (run.created, run.name))


def read(folder: Path) -> Run:
    """The run in `folder`; `UserError` where there is none, or its record is damaged."""
    record = read_run(folder)
    run = record.run
    return Run(
        folder=folder.absolute(),
        recipe=run.recipe,
        status=_status(folder, record),
        created=run.created,
        options=dict(run.plan),
        sites={name: site.examples for name, site in run.sites.items()},
        classes=run.classes,
        rounds=tuple(_round(event) for event in record.rounds),
        stages=tuple(_stage(event, record) for event in record.stages),
        warnings=tuple(event.text for event in record.warnings),
        damaged=record.damaged,
    )


def _status(folder: Path, record: RunRecord) -> Status:
    from server.run.folder import LOCK  # noqa: PLC0415 (slow)

    if is_locked(folder / LOCK):
        return "running"
    return "stopped" if record.run.status == "running" else record.run.status


def _round(event: RoundEvent) -> Round:
    return Round(
        **_exchanged(event),
        number=event.round,
        stage=event.stage_name,
        loss=event.loss,
        received=event.received,
    )


def _stage(event: StageEvent, record: RunRecord) -> Stage:
    return Stage(
        **_exchanged(event),
        name=event.stage_name,
        rounds=sum(each.stage == event.stage for each in record.rounds),
        figures=event.figures,
        sizes=event.cluster_sizes,
        table=None if event.table is None else np.array(event.table, np.int64),
        by=event.by,
    )


def _exchanged(event: RoundEvent | StageEvent) -> dict[str, Any]:
    return {
        "seconds": event.seconds.get("total", float("nan")),
        "bytes_down": event.bytes_down,
        "bytes_up": event.bytes_up,
        "answered": event.answered,
        "missing": event.missing,
        "refused": event.refused,
    }
