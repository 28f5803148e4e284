"""`covey audit-forgetting --server`: an audit over the sites that have joined a running server.

The images stay where they are. The federation runs again without those that were taken back, once
under the same seed and a few times under others; what these have learned is compared here, to the
bit; and each site that took images back is shown the models, and tells how well they know these
(`client/tasks/recall.py`). The runs are made in `audit/` in the forgotten run's folder, handed to
nobody, and deleted when the report is written; one that is there already is taken.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from common.data.planned import PARTITION
from common.record.follow_up import FollowUp
from common.record.forgetting import FILE, Forgetting, Order, read_order
from common.record.later import RecalledEvent
from common.record.orders import writer_of
from common.record.reader import RunRecord, read_run
from common.record.schema import Run
from common.utils.errors import UserError
from common.utils.lock import is_locked
from deploy.audit.figures import reported
from deploy.audit.found import Audit, Cost, Counts
from deploy.audit.references import PLACE, Say, check_references, is_finished
from deploy.audit.same import of_states
from deploy.audit.told import Told, has_landmarks
from deploy.audit.verdict import conclude
from deploy.coordinator.folder import ServerFolder
from deploy.coordinator.submit import Order as Submission
from deploy.coordinator.submit import submit_run
from deploy.forgetting.preparing import make
from deploy.questions.following import follow_served, plan_following
from server.forgetting.retrain import Retrain
from server.questions.recalling import model_file
from server.run.folder import CHECKPOINT, LOCK

NOBODYS = (
    "Figures on images that no site has (and the share of a forgotten class in clusters of its "
    "own): there are none in a federation of real sites. The figures are those that the runs "
    "report of the sites' own images."
)


@dataclass(frozen=True)
class Pair:
    """The run `original`, and the one that was made in its place, as `order` says."""

    original: Path
    forgotten: Path
    order: Order
    records: tuple[RunRecord, RunRecord]

    @property
    def run(self) -> Run:
        """The record of the second."""
        return self.records[1].run

    @property
    def forgetting(self) -> Forgetting:
        """What was forgotten."""
        found = self.run.forgetting
        assert found is not None  # it is made by `order`
        return found

    @property
    def taking(self) -> tuple[str, ...]:
        """Sites that have taken images back, and are still there."""
        return tuple(sorted(self.forgetting.images.keys() - set(self.forgetting.gone)))


def pair_of(original: Path, forgotten: Path) -> Pair:
    """The two; `UserError` where they are no such pair of runs over real sites."""
    for folder in (original, forgotten):
        if (folder / PARTITION).exists():
            raise UserError(f"{folder}: its images are on this machine: leave out --server")
    records = read_run(original), read_run(forgotten)
    for folder, record in zip((original, forgotten), records, strict=True):
        if record.run.status != "finished" or not (folder / CHECKPOINT).exists():
            raise UserError(f"{folder}: the run has not finished, it is {record.run.status}")
    order = read_order(forgotten)
    if order is None or records[1].run.forgetting is None:
        raise UserError(f"{forgotten} was not made by covey forget")
    if order.forgetting.of != records[0].run.id:
        raise UserError(f"{forgotten} is in the place of {order.forgetting.of}, not of {original}")
    if records[1].run.superseded:
        raise UserError(f"{forgotten}: {records[1].run.superseded} is in its place: audit that")
    return Pair(original, forgotten, order, records)


def audit_served(
    server: ServerFolder, pair: Pair, references: int, console: Console, say: Say
) -> Audit:
    """Look at both, beside one run without the data under the same seed, and as many `references`
    under the next ones. `UserError` where sites do not hold any more what they held then."""
    check_references(references)
    seed = pair.run.settings().seed
    seeds = tuple(seed + number for number in range(1, references + 1))
    twin, *others = (_without(server, pair, each, console, say) for each in (seed, *seeds))
    say("the sites look for what they have taken back")
    told = _ask(server, pair, (twin, *others), (seed, seed, *seeds), console)
    records = [read_run(folder) for folder in others]
    published = of_states(pair.original, pair.forgotten, twin)
    figures = reported(*pair.records, records)
    attacks = told.attacks(has_landmarks(pair.run.settings().stages[-1]))
    return Audit(
        original=pair.records[0],
        forgotten=pair.records[1],
        counts=_counts(pair, told),
        seeds=seeds,
        published=tuple(published),
        sums=(),
        attacks=attacks,
        figures=tuple(figures),
        cost=Cost.of(pair.records[1], read_run(twin)),
        verdict=conclude(published, (), attacks, figures, "images that stayed", told.of_sums()),
        wanting=(*_wanting(pair, told), NOBODYS),
        served=True,
    )


def clear(pair: Pair) -> None:
    """Delete the runs that the audit has made."""
    shutil.rmtree(pair.forgotten / PLACE, ignore_errors=True)


def _without(server: ServerFolder, pair: Pair, seed: int, console: Console, say: Say) -> Path:
    """The folder of a run of the plan under `seed`, over the sites as they are; made if it is not
    there."""
    folder = pair.forgotten / PLACE / f"{pair.forgotten.name}-seed-{seed}"
    if is_locked(folder / LOCK):
        raise UserError(f"{folder} is going on: wait until it has ended, or stop it (covey stop)")
    if not is_finished(folder):
        say(f"a run without the data, seed {seed}")
        if not (folder / FILE).exists():
            plan = pair.run.settings().model_copy(update={"seed": seed})
            forgetting = pair.order.forgetting.model_copy(
                update={"method": Retrain.name, "parameters": {}}
            )
            changed = {"plan": plan, "forgetting": forgetting, "alone": False, "reference": True}
            folder.parent.mkdir(exist_ok=True)
            make(folder, None, {FILE: writer_of(pair.order.model_copy(update=changed))})
            server.link_logs(folder)
        submit_run(server, Submission("", {}, resume=folder), console)
    _check_same_images(pair, folder)
    return folder


def _check_same_images(pair: Pair, folder: Path) -> None:
    held = {name: facts.fingerprint for name, facts in pair.run.sites.items()}
    now = {name: facts.fingerprint for name, facts in read_run(folder).run.sites.items()}
    changed = sorted(name for name in held.keys() | now.keys() if held.get(name) != now.get(name))
    if changed:
        shutil.rmtree(folder)
        raise UserError(
            f"site {changed[0]} does not hold what it held in {pair.forgotten.name}: forget anew, "
            "and audit that"
        )


def _ask(
    server: ServerFolder,
    pair: Pair,
    without: Sequence[Path],
    seeds: tuple[int, ...],
    console: Console,
) -> Told:
    """What the sites that take images back tell of the models: the original, the forgotten one, and
    those `without` the data but for the first, which has the forgotten one's seed."""
    if pair.run.settings().batchnorm == "local":
        why = "each site has running statistics of its own, which no run keeps after its end"
        return Told({}, dict.fromkeys(pair.taking, why))
    if not pair.taking:
        return Told({}, {})
    folders = (pair.original, pair.forgotten, *without[1:])
    asked = FollowUp(
        of=pair.run.id, kind="audit", original=pair.order.forgetting.of, sites=pair.taking,
        seeds=seeds,
    )  # fmt: skip
    for left in pair.forgotten.parent.glob(f"{pair.forgotten.name}-audit*"):
        if not is_locked(left / LOCK):
            shutil.rmtree(left)  # of an audit that was killed
    following = plan_following(pair.forgotten, asked)
    models = {
        model_file(number): (folder / CHECKPOINT).read_bytes()
        for number, folder in enumerate(folders, 1)
    }
    try:
        follow_served(server, following, console, models)
        found = [e for e in read_run(following.folder).events if isinstance(e, RecalledEvent)]
    finally:
        shutil.rmtree(following.folder, ignore_errors=True)
    return Told(found[-1].told, found[-1].refused)


def _counts(pair: Pair, told: Told) -> Counts:
    forgotten = pair.forgetting.images
    return Counts(
        forgotten=sum(forgotten.values()),
        left=sum(facts.examples for facts in pair.run.sites.values()),
        sites=dict(forgotten),
        stayed=told.stayed,
    )


def _wanting(pair: Pair, told: Told) -> list[str]:
    found = [
        f"Attacks at {site}, which has left with all its images: nobody else has them to look for."
        for site in pair.forgetting.gone
    ]
    found += [f"Attacks at {site}: {why}." for site, why in sorted(told.refused.items())]
    if not told.told:
        found.append("So nobody has looked whether the forgotten images can still be found.")
    return found
