"""One exchange being held with the sites: what is asked of whom, and what comes of it.

Replies are folded as they arrive and dropped; a bad one is refused by name and the others go on.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from common.config.byzantine import answers_needed
from common.protocol.declaration import Brings
from common.protocol.layout import BUFFERS, module_of
from common.protocol.messages import NEEDS_MODEL, Groups, Instruction, Reply, wire_size
from common.protocol.packing import Packed
from server.aggregation import ROBUST, Aggregation, aggregation
from server.aggregation.robust import Defence
from server.conversation.closing import Closing
from server.conversation.registration import SiteInfo
from server.conversation.transport import CLOCKS, hear, push
from server.conversation.validation import Expected, Refused, read_reply
from server.measurements import Measurements

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Participants:
    """Who is asked: `nodes` (site -> node id) of the `sites` that have joined (site -> what it said
    of itself); `absent`: those of the federation that could not be asked."""

    nodes: Mapping[str, int]
    sites: Mapping[str, SiteInfo]
    absent: frozenset[str] = frozenset()

    @property
    def images(self) -> int:
        """Of all that are asked."""
        return sum(self.sites[name].examples for name in self.nodes)


class Inquiry:
    """Asks `whom` the same thing, `asked`; answers must fit `expected`. `closing`: when it is over
    before the plan's deadline (None: when all have answered). `changes`: what has been added to the
    groups that the sites have, so that they need not be sent."""

    def __init__(
        self,
        asked: Instruction,
        whom: Participants,
        expected: Expected,
        closing: Closing | None = None,
        changes: Mapping[str, Packed] | None = None,
    ) -> None:
        self.asked = asked
        self.whom = whom
        self.closing = closing or Closing(len(whom.nodes), len(whom.nodes))
        self._expected = expected
        self._changes = changes or {}
        self._reminded: set[str] = set()
        stage = asked.plan.stages[asked.stage]
        self._defence = Defence.of(stage, asked.plan.byzantine)
        self.measured = Measurements(asked.clusters, len(asked.classes), whom.images, self._defence)
        brings, rule = asked.exchange.brings, stage.aggregation
        in_a_round = asked.exchange.in_a_round
        ruled = (brings is Brings.SHARED and in_a_round) or (
            brings is Brings.PREPARED and rule in ROBUST
        )
        self.update: Aggregation = aggregation(
            rule if ruled else "mean",
            expected.layout,
            expected.brought_back(asked),
            max(whom.images, 1),
            self._defence.suspects,
        )
        self.answered: list[str] = []
        self.refused: dict[str, str] = {}
        self.waiting: dict[str, str] = {}  # message id -> site
        self.bytes_down = self.bytes_up = 0
        self.seconds = 0.0
        self._opened = time.monotonic()

    @property
    def missing(self) -> list[str]:
        """Sites that could not be asked, or neither answered nor were refused."""
        silent = self.whom.nodes.keys() - set(self.answered) - self.refused.keys()
        return sorted(self.whom.absent | silent)

    @property
    def needed(self) -> float:
        """Answers without which it does not count: those of the quorum, and those that robust rules
        need against the sites that may still be Byzantine."""
        if not self.asked.exchange.robust:
            return self.closing.least
        stage = self.asked.plan.stages[self.asked.stage]
        return max(self.closing.least, answers_needed(stage, self._defence.suspects.left))

    @property
    def cost(self) -> "Cost":
        """What it took; all that is kept of one whose sums have been used."""
        phases = self.measured.totals.seconds()
        return Cost(self.bytes_down, self.bytes_up, self.seconds, phases)

    @property
    def share(self) -> float:
        """Of the images of all sites that have joined, those of the sites that answered."""
        sites = self.whom.sites
        answered = sum(sites[name].examples for name in self.answered)
        return answered / sum(site.examples for site in sites.values())

    def hold(
        self,
        grid: Grid,
        count: Callable[[int], None] = lambda _answered: None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask, and fold until all have answered, `closing` says so, or the plan's deadline has
        passed; `waiting` then has what was not answered. `count` is told how many have answered,
        `meanwhile` is called while no answer comes."""
        started = time.monotonic()
        self.waiting = push(grid, self._messages(self._lean.to_record(), self.whom.nodes))
        LOG.info("%s: asked %d sites", self._about, len(self.waiting))
        for message_id, site in self.waiting.items():
            LOG.debug("%s: asked %s by the message %s", self._about, site, message_id)
        heard = hear(grid, self.waiting, self.asked.plan.deadline, self._is_over, meanwhile)
        self.fold(self._reminding(grid, heard), count)
        self.seconds = time.monotonic() - started
        LOG.info("%s: over after %.3f s", self._about, self.seconds)

    @property
    def _about(self) -> str:
        """What the log of the server and those of the sites call it."""
        return f"round {self.asked.round} {self.asked.asked}"

    def messages(self) -> dict[str, Message]:
        """One message per site with all that it needs, for a loop other than `hold`; `hear` takes
        what comes back."""
        self._opened = time.monotonic()
        return self._messages(self._whole, self.whom.nodes)

    def hear(self, replies: Iterable[Message]) -> None:
        """Fold the answers to `messages`."""
        sites = {node: site for site, node in self.whom.nodes.items()}
        named = ((sites.get(each.metadata.src_node_id), each) for each in replies)
        self.fold((site, message) for site, message in named if site is not None)
        self.seconds = time.monotonic() - self._opened

    @property
    def _lean(self) -> Instruction:
        """What is asked, without the groups that the sites should have from the message before.
        Those are all, where they have their embeddings by this model, and all but what was
        prepared, where they have prepared it, or know all changes since."""
        prepared, brings = self._expected.prepared, self.asked.exchange.brings
        trained = self.asked.exchange.in_a_round and brings in (Brings.SHARED, Brings.GRADIENT)
        if self.asked.exchange.after and not (self.asked.exchange.goes_on and self.asked.step == 1):
            groups: Groups = {}
        elif prepared and (trained or self.asked.step > 1 or self._changes):
            groups = {
                name: array
                for name, array in self.asked.groups.items()
                if module_of(name) == prepared or (self._changes and name.endswith(BUFFERS))
            }
        else:
            return self.asked
        return replace(self.asked, groups=groups, changes=self._changes)

    @cached_property
    def _whole(self) -> RecordDict:
        """All that is asked, made once for however many sites need it."""
        return self.asked.to_record()

    def _messages(self, record: RecordDict, sites: Collection[str]) -> dict[str, Message]:
        """One message per site; all share one record, which Flower uploads once. A site that was
        away does not work on it when the round is long over."""
        call = self.asked.exchange.call
        self.bytes_down += wire_size(record) * len(sites)
        group, ttl = str(self.asked.round), self.asked.plan.deadline + CLOCKS
        nodes = self.whom.nodes
        return {s: Message(record, nodes[s], call, group_id=group, ttl=ttl) for s in sites}

    def _reminding(
        self, grid: Grid, heard: Iterable[tuple[str, Message]]
    ) -> Iterator[tuple[str, Message]]:
        """What was heard, but of sites that do not remember: each of those is asked once more, with
        all that it needs."""
        for site, message in heard:
            forgot = message.has_error() and message.error.reason == NEEDS_MODEL
            if forgot and site not in self._reminded:
                self._reminded.add(site)
                self.waiting |= push(grid, self._messages(self._whole, [site]))
            else:
                yield site, message
            del message

    def _is_over(self, seconds: float) -> bool:
        return self.closing.due(seconds, self.answered, self.waiting.values())

    def fold(
        self,
        answers: Iterable[tuple[str, Message]],
        count: Callable[[int], None] = lambda _answered: None,
    ) -> None:
        """Fold (site, message) pairs one by one."""
        for site, message in answers:
            try:
                self._fold_one(site, message)
            except Refused as why:
                self.refused[site] = str(why)
                LOG.warning("%s: refused %s: %s", self._about, site, why)
                if not message.has_error():
                    self._defence.suspects.expose(site)
            else:
                self.bytes_up += wire_size(message.content)
                self.answered.append(site)
                LOG.info("%s: %s answered", self._about, site)
            count(len(self.answered) + len(self.refused))
            del message  # the next is pulled only after this one's memory is free

    def _fold_one(self, site: str, message: Message) -> None:
        images = self.whom.sites[site].examples
        reply: Reply = read_reply(message, site, self.asked, self._expected, images)
        if self.asked.exchange.brings is not Brings.NOTHING and reply.examples:
            try:
                self.update.fold(reply.groups, reply.examples)
            except ValueError as error:
                raise Refused(str(error)) from None
        self.measured.fold(reply)


@dataclass(frozen=True)
class Cost:
    """What an exchange took: bytes, seconds in all and by phase."""

    bytes_down: int
    bytes_up: int
    seconds: float
    phases: dict[str, float]


def account(last: Inquiry, before: Sequence[Cost] = ()) -> dict[str, Any]:
    """Who answered the `last` exchange of one event of the run; its bytes and seconds with those
    of the exchanges `before` it."""
    costs = [*before, last.cost]
    total = sum(cost.seconds for cost in costs)
    phases: dict[str, float] = {}
    for cost in costs:
        for name, seconds in cost.phases.items():
            phases[name] = phases.get(name, 0.0) + seconds
    phases = {"total": total, **phases, "wait": max(0.0, total - sum(phases.values()))}
    return {
        "answered": sorted(last.answered),
        "missing": last.missing,
        "refused": last.refused,
        "bytes_down": sum(cost.bytes_down for cost in costs),
        "bytes_up": sum(cost.bytes_up for cost in costs),
        "seconds": {name: round(value, 4) for name, value in phases.items()},
    }
