"""One exchange with the sites: what was asked of whom, and what came of it.

Replies are folded as they arrive and dropped; a bad one is refused by name and the others go on.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from common.layout import Layout
from common.messages import Instruction, Reply, wire_size
from server.aggregation import Aggregation, aggregation
from server.checks import Expected, Refused, read_reply
from server.conversation import converse
from server.measurements import Measurements
from server.roster import SiteInfo


class Exchange:
    """Asks `nodes` (site -> node id) the same thing. `layout`: of what is sent; `width`: of the
    embeddings."""

    def __init__(
        self,
        asked: Instruction,
        nodes: Mapping[str, int],
        sites: Mapping[str, SiteInfo],
        layout: Layout,
        width: int,
    ) -> None:
        self.asked = asked
        self.nodes = nodes
        self._sites = sites
        self._width = width
        self._sizes = {name: len(array) for name, array in asked.groups.items()}
        images = sum(sites[name].examples for name in nodes)
        self.measured = Measurements(width, asked.plan.clusters, len(asked.classes), images)
        stage = asked.plan.stages[asked.stage]
        self.update: Aggregation = aggregation(
            stage.aggregation, layout, asked.groups, max(images, 1)
        )
        self.answered: list[str] = []
        self.refused: dict[str, str] = {}
        self.bytes_down = self.bytes_up = 0
        self.seconds = 0.0

    @property
    def missing(self) -> list[str]:
        """Sites that were asked and neither answered nor were refused."""
        return sorted(self.nodes.keys() - set(self.answered) - self.refused.keys())

    def hold(self, grid: Grid) -> None:
        """Ask, and fold until all have answered or the plan's deadline has passed."""
        started = time.monotonic()
        self.fold(converse(grid, self.messages(), self.asked.plan.deadline))
        self.seconds = time.monotonic() - started

    def messages(self) -> dict[str, Message]:
        """One message per site; all share one record, which Flower uploads once."""
        record = self.asked.to_record()
        kind = "train" if self.asked.kind == "train" else "evaluate"
        self.bytes_down = wire_size(record) * len(self.nodes)
        group = str(self.asked.round)
        return {site: Message(record, n, kind, group_id=group) for site, n in self.nodes.items()}

    def fold(self, answers: Iterable[tuple[str, Message]]) -> None:
        """Fold (site, message) pairs one by one."""
        for site, message in answers:
            try:
                self._fold_one(site, message)
            except Refused as why:
                self.refused[site] = str(why)
            else:
                self.bytes_up += wire_size(message.content)
                self.answered.append(site)
            del message  # the next is pulled only after this one's memory is free

    def _fold_one(self, site: str, message: Message) -> None:
        images = self._sites[site].examples
        centroids = self.asked.centroids
        sent = 0 if centroids is None else len(centroids.counts)
        expected = Expected(self._sizes, self._width, images, sent)
        reply: Reply = read_reply(message, site, self.asked, expected)
        if reply.kind == "train":
            try:
                self.update.fold(reply.groups, reply.examples)
            except ValueError as error:
                raise Refused(str(error)) from None
        self.measured.fold(reply)


def account(*exchanges: Exchange) -> dict[str, Any]:
    """Who answered, bytes and seconds, over the exchanges of one event of the run."""
    last = exchanges[-1]
    total = sum(exchange.seconds for exchange in exchanges)
    phases: dict[str, float] = {}
    for exchange in exchanges:
        for name, seconds in exchange.measured.seconds().items():
            phases[name] = phases.get(name, 0.0) + seconds
    phases = {"total": total, **phases, "wait": max(0.0, total - sum(phases.values()))}
    return {
        "answered": sorted(last.answered),
        "missing": last.missing,
        "refused": last.refused,
        "bytes_down": sum(exchange.bytes_down for exchange in exchanges),
        "bytes_up": sum(exchange.bytes_up for exchange in exchanges),
        "seconds": {name: round(value, 4) for name, value in phases.items()},
    }
