"""`covey forget` where a run's images are on this machine: a simulation, or `covey run`.

The partition was made before anything is taken back, so that no other image changes its site.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from common.config.checks import check_plan
from common.config.options import Plan
from common.data import ImageData
from common.data.images import Indices
from common.data.partition import Partition
from common.data.planned import PARTITION, TAKEN, planned_data
from common.record.forgetting import FILE, Order
from common.record.orders import writer_of
from common.record.reader import has_run, read_settings
from common.utils.errors import UserError, unknown
from deploy.engines.watched import simulate_watched
from deploy.forgetting.choosing import ASSIGNMENTS, Wish, chosen
from deploy.forgetting.preparing import (
    Earlier,
    begins,
    check_is_first,
    earlier_run,
    make,
    place_for,
    supersede,
    unmake,
)
from server.forgetting import method_for
from server.model import GlobalModel
from server.report import write_report
from server.run.folder import Checkpoint, RunFolder


@dataclass(frozen=True)
class Forgotten:
    """What is to be done, before anything is: the run that is made, how, and in whose place.
    `taken`: the images that leave, where the method needs them once more."""

    earlier: Earlier
    folder: Path
    order: Order
    partition: Partition
    start: Checkpoint | None
    begun: bool
    taken: Partition | None = None

    def lines(self) -> list[str]:
        """In words."""
        forgetting = self.order.forgetting
        told = [forgetting.text, f"{'goes on' if self.begun else 'a new run'}: {self.folder}"]
        told.append(begins(self.start, self.order.plan.rounds))
        return [*told, f"{self.earlier.folder.name} is then marked as superseded"]


def plan_here(run: Path, site: str, wish: Wish, method: str = "") -> Forgotten:
    """What taking back `wish` of the site's images from `run` by `method` would do; nothing is
    changed. `UserError` for whatever does not fit."""
    earlier = earlier_run(run)
    check_is_first(earlier)
    if not (earlier.folder / PARTITION).exists():
        raise UserError(
            f"{earlier.folder}: its sites hold their own images: `covey client forget` at the "
            "site, then `covey forget` with --server DIR"
        )
    method_for(method, earlier.run.settings())  # a mistake is told before images are read
    data = planned_data(earlier.run.settings())
    before = Partition.load(earlier.folder / PARTITION)
    index = _index(site, before)
    own = data.subset(before.sites[index])
    facts = earlier.run.sites.get(site)
    if facts is not None and facts.fingerprint != own.fingerprint:
        raise UserError(f"the images of {site} are not those that it had in the run")
    rows = chosen(wish, own, earlier.folder / "sites" / site / earlier.run.id / ASSIGNMENTS)
    left = np.delete(before.sites[index], rows)
    parts = (*before.sites[:index], left, *before.sites[index + 1 :])
    return plan_without(earlier, before, parts, data, method)


def plan_without(
    earlier: Earlier,
    before: Partition,
    left: tuple[Indices, ...],
    data: ImageData,
    method: str = "",
) -> Forgotten:
    """What would be done if of the run's images, spread as `before`, each site had those that are
    `left`, rows of `data`. `UserError` where nobody has any."""
    plan = earlier.run.settings()
    called, how = method_for(method, plan)
    partition = Partition(before.spec, before.seed, left)
    sites = sum(len(part) > 0 for part in left)
    if not sites:
        raise UserError("nothing would be left: delete the run's folder instead")
    plan = plan if plan.alone else plan.model_copy(update={"sites": sites})
    check_plan(plan)
    pairs = enumerate(zip(before.sites, left, strict=True))
    taken = {f"site-{i}": (len(had) - len(has), len(has)) for i, (had, has) in pairs if len(had)}
    images = {name: count for name, (count, _) in taken.items() if count}
    gone = tuple(name for name, (_, has) in taken.items() if not has)
    forgetting = earlier.without(called, how, images, gone)
    key = hashlib.sha256(f"{called}/{partition.hash}".encode()).hexdigest()[:16]
    folder, begun = place_for(earlier, key)
    model = GlobalModel(plan, data.channels, data.side)
    start = how.start(plan, earlier.past(images.keys(), gone), model)
    order = Order(plan=plan, forgetting=forgetting, key=key)
    wanted = _taken(before, left) if how.at_site else None
    return Forgotten(earlier, folder, order, partition, start, begun, wanted)


def forget_here(forgotten: Forgotten, console: Console) -> Path:
    """Do it; the folder of the new run. Killed at any moment, the same command goes on."""
    earlier, folder = forgotten.earlier, forgotten.folder
    with earlier.held():
        if not forgotten.begun:
            fill = {PARTITION: forgotten.partition.save, FILE: writer_of(forgotten.order)}
            if forgotten.taken is not None:
                fill[TAKEN] = forgotten.taken.save
            make(folder, forgotten.start, fill)
        plan = RunFolder(folder).plan()
        if not has_run(folder) or read_settings(folder).status != "finished":
            _carry_out(plan, folder, console)
        (folder / TAKEN).unlink(missing_ok=True)  # whose images these were is nobody's any more
        supersede(earlier, folder)
    return folder


def _carry_out(plan: Plan, folder: Path, console: Console) -> None:
    RunFolder(folder).reopen()
    try:
        simulate_watched(plan, folder, console)
    except UserError:
        unmake(folder)
        raise
    write_report(folder)


def _taken(before: Partition, left: tuple[Indices, ...]) -> Partition:
    """The images that leave, by site."""
    pairs = zip(before.sites, left, strict=True)
    rows = tuple(np.setdiff1d(had, has) for had, has in pairs)
    return Partition(before.spec, before.seed, rows)


def _index(site: str, partition: Partition) -> int:
    """The number of the part that belongs to `site`."""
    known = {f"site-{i}": i for i, part in enumerate(partition.sites) if len(part)}
    if site not in known:
        raise unknown("site", site, known)
    return known[site]
