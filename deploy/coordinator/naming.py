"""`covey names`: what a run's sites call its clusters, and what the federation is to call them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from common.learned.file import read_learned
from common.record.reader import read_run
from common.record.schema import NamesEvent
from common.utils.errors import UserError, unknown
from deploy.terminal.table import show_table
from deploy.using.naming import Said, model_file, say
from server.report import write_report
from server.run.folder import RunFolder


@dataclass(frozen=True)
class Called:
    """What the clusters of a run are called: `names` by the federation, "" where they have none;
    `offers` by site; `sizes`, where they are known."""

    names: tuple[str, ...]
    offers: Mapping[str, tuple[str, ...]]
    sizes: tuple[int, ...] = ()

    def show(self, console: Console) -> None:
        """As a table, a line for each cluster."""
        heads = ("cluster", "images", "name", *self.offers)
        rows = [
            (
                str(number),
                f"{self.sizes[number]:,}" if self.sizes else "–",
                name or "–",
                *(offer[number] or "–" for offer in self.offers.values()),
            )
            for number, name in enumerate(self.names)
        ]
        show_table(console, heads, rows, numbers=("cluster", "images"))

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {"names": self.names, "offers": self.offers}


def called(run: Path) -> Called:
    """What the clusters of the run in this folder are called; `UserError` where it has no model."""
    facts = read_learned(model_file(run)).facts
    sites = read_run(run).run.sites
    offers = {
        name: site.names
        for name, site in sorted(sites.items())
        if site.names and len(site.names) == facts.clusters
    }
    return Called(facts.names, offers, facts.sizes)


def accept(run: Path, sites: Sequence[str], given: Mapping[int, str]) -> Called:
    """Call the run's clusters as these `sites` have offered, a later one before an earlier, and as
    `given`; its model, record and report say so then. `UserError` for a site that has offered
    nothing, and a cluster that there is not."""
    before = called(run)
    names: dict[int, str] = {}
    for site in sites:
        if site not in before.offers:
            raise unknown("site with an offer", site, before.offers)
        names |= {number: name for number, name in enumerate(before.offers[site]) if name}
    folder = RunFolder(run)
    with folder.held():
        record = read_run(run)
        if record.run.status != "finished":
            raise UserError(f"{run} has not finished")
        path = model_file(run)
        facts = read_learned(path).facts
        learned = say(path, Said(names={**names, **given}, same=facts.same, split=facts.split))
        last = record.stages[-1].round if record.stages else 0
        folder.log(NamesEvent(round=last, names=learned.facts.names, sites=tuple(sites)))
        write_report(run)
    return called(run)
