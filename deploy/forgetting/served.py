"""`covey forget --server`: over the sites that have joined a running server.

A site says itself which images leave, by its own list (`covey client forget`); the coordinator
never learns more than their number. A whole site that is to leave is not asked any more.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from common.config.checks import check_plan
from common.data.planned import PARTITION
from common.record.forgetting import FILE, Order
from common.record.orders import writer_of
from common.record.reader import has_run, read_settings
from common.utils.errors import RunFailed, UserError, unknown
from deploy.coordinator.folder import ServerFolder
from deploy.coordinator.submit import Order as Submission
from deploy.coordinator.submit import submit_run
from deploy.engines.runs import conclude
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
from server.run.folder import Checkpoint, RunFolder


@dataclass(frozen=True)
class Asked:
    """What is to be done, before anything is: the run that is made, how, and in whose place."""

    earlier: Earlier
    folder: Path
    order: Order
    start: Checkpoint | None
    begun: bool

    def lines(self) -> list[str]:
        """In words."""
        forgetting = self.order.forgetting
        what = "all its images" if forgetting.gone else "what it has taken back itself"
        return [
            f"site {self.order.asked}: {what}; method: {forgetting.method}",
            f"{'goes on' if self.begun else 'a new run'} over {len(self.order.sites)} sites: "
            f"{self.folder}",
            begins(self.start, self.order.plan.rounds),
            f"{self.earlier.folder.name} is then marked as superseded",
        ]


def plan_served(run: Path, site: str, everything: bool, method: str = "") -> Asked:
    """What forgetting in `run` would do, for `site`, which leaves with `everything` or has said
    itself what it takes back; nothing is changed. `UserError` for whatever does not fit."""
    earlier = earlier_run(run)
    check_is_first(earlier)
    if (earlier.folder / PARTITION).exists():
        raise UserError(f"{earlier.folder}: its images are on this machine: leave out --server")
    known = earlier.run.sites
    if site not in known:
        raise unknown("site", site, known)
    asked = tuple(sorted(known.keys() - ({site} if everything else set())))
    if not asked:
        raise UserError("nothing would be left: delete the run's folder instead")
    plan = earlier.run.settings().model_copy(update={"sites": len(asked)})
    check_plan(plan)
    called, how = method_for(method, plan)
    shape = RunFolder(earlier.folder).shape()
    if shape is None:
        raise UserError(f"{earlier.folder} does not say what its sites' images look like")
    key = hashlib.sha256(f"{called}/{site}/{everything}".encode()).hexdigest()[:16]
    folder, begun = place_for(earlier, key)
    gone = (site,) if everything else ()
    start = how.start(plan, earlier.past((site,), gone), GlobalModel(plan, *shape))
    images = {site: known[site].examples} if everything else {}
    order = Order(
        plan=plan,
        forgetting=earlier.without(called, how, images, gone),
        key=key,
        asked=site,
        sites=asked,
        before={name: known[name].withdrawn or 0 for name in asked},
        alone=how.before_the_site and start is not None,
    )
    return Asked(earlier, folder, order, start, begun)


def forget_served(server: ServerFolder, asked: Asked, console: Console) -> dict[str, object]:
    """Do it, and return the new run's figures. Interrupted, the same command goes on."""
    earlier, folder = asked.earlier, asked.folder
    with earlier.held():
        if not asked.begun:
            make(folder, asked.start, {FILE: writer_of(asked.order)})
            server.link_logs(folder)
        figures = _carry_out(server, folder, console)
        supersede(earlier, folder)
    return figures


def _carry_out(server: ServerFolder, folder: Path, console: Console) -> dict[str, object]:
    if has_run(folder) and read_settings(folder).status == "finished":
        return conclude(folder, console)
    try:
        return submit_run(server, Submission("", {}, resume=folder), console)
    except (UserError, RunFailed):
        unmake(folder)
        raise
