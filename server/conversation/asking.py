"""Asking the sites: who is asked what, with which state, and again where too few answer.

Where too few are there, the plan's deadline is waited for them: a federation whose sites have all
gone goes on when they are back.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from flwr.app import Message
from flwr.serverapp import Grid

from common.clustering.centroids import Centroids, of_width
from common.config.options import Plan
from common.protocol.declaration import Asks
from common.protocol.exchanges import EXCHANGES
from common.protocol.layout import digest_of
from common.protocol.messages import ALL, Floats, Groups, Instruction, Kind
from common.protocol.packing import Packed
from common.utils.errors import UserError
from server.aggregation.stepping import STEPS
from server.conversation.closing import HANDED_OVER, Closing
from server.conversation.inquiry import Inquiry, Participants
from server.conversation.roster import Roster
from server.conversation.validation import Expected
from server.model import GlobalModel
from server.run.folder import Checkpoint
from server.run.progress import WAIT, Progress, ProgressFile

ATTEMPTS = 3  # at an exchange whose quorum was missed, before the run fails
LOOK = 1.0  # seconds between two looks whether sites are back


@dataclass(frozen=True)
class Question:
    """What is asked in training round `number`, or after it; `centroids` instead of the state's;
    `step` 1, 2, ... of a sequence of exchanges; `learned`: what `deliver` says of the model;
    `sets`: sizes of sets that are not the plan's, `within`: the one cluster that is meant;
    `about`: what becomes of images that were taken back, at these `sites`."""

    kind: Kind
    number: int
    centroids: Centroids | None = None
    probe: Floats | None = None
    step: int = 0
    learned: str = ""
    sets: tuple[int, ...] = ()
    within: int = ALL
    about: str = ""
    sites: frozenset[str] = frozenset()


class Asking:
    """Opens and holds the exchanges of one run."""

    def __init__(
        self,
        plan: Plan,
        run: str,
        roster: Roster,
        model: GlobalModel,
        warn: Callable[[str, int], None],
        progress: ProgressFile,
    ) -> None:
        self._plan, self._run = plan, run
        self._progress = progress
        self._roster, self._model = roster, model
        self._warn = warn
        self._digested: tuple[Groups, str] = ({}, "")
        self.changes: Mapping[str, Packed] = {}  # of the state since it was last sent, if so known

    def hold(self, grid: Grid, state: Checkpoint, question: Question) -> Inquiry:
        """One exchange with quorum: asks again, a few times, while too few answer, then raises
        `UserError`."""
        kind, number = question.kind, question.number
        reasons: dict[str, str] = {}
        for attempt in range(1, ATTEMPTS + 1):
            self._await_sites(question)
            inquiry = self._hold(grid, state, question)
            reasons |= inquiry.refused
            for site, reason in sorted(inquiry.refused.items()):
                self._warn(f"round {number}: {site} refused: {reason}", number)
            asked, answered = len(inquiry.whom.nodes), len(inquiry.answered)
            if answered >= inquiry.needed:
                return inquiry
            few = answered < inquiry.closing.least
            wanting = f"the quorum {self._plan.quorum:g}" if few else "the stage's robust rules"
            self._warn(
                f"round {number} ({kind}): {answered} of {asked} sites gave a usable answer, "
                f"too few for {wanting} (attempt {attempt})",
                number,
            )
        why = "; ".join(f"{site}: {reason}" for site, reason in sorted(reasons.items())[:3])
        raise UserError(
            f"round {number}: the quorum was missed {ATTEMPTS} times ({why or 'no answers'})"
        )

    def tell(
        self, grid: Grid, state: Checkpoint, question: Question, without: Collection[str] = ()
    ) -> Inquiry | None:
        """One exchange whose answers nothing hangs on: it is held once, with the sites that are
        there but for those `without` it; None where there is none. When half of them have answered,
        the others are waited for as long as that took once more, or `HANDED_OVER` seconds."""
        inquiry = self.open(state, question)
        nodes = {name: n for name, n in inquiry.whom.nodes.items() if name not in without}
        if not nodes:
            return None
        inquiry.whom, names = replace(inquiry.whom, nodes=nodes), frozenset(nodes)
        inquiry.closing = Closing(len(names), max(1.0, len(names) / 2), names, HANDED_OVER)
        self._progress.begin(Progress(question.kind, asked=len(names)))
        inquiry.hold(grid, self._progress.count)
        self._roster.settle(inquiry.answered, inquiry.waiting, late=False)
        return inquiry

    def conclude(self, inquiry: Inquiry, replies: Iterable[Message]) -> None:
        """Fold `replies` to an open exchange that a loop other than `hold` has sent and heard: what
        it says of the sites' being there, and a warning of those that are refused."""
        inquiry.hear(replies)
        self._roster.settle(inquiry.answered, {}, late=False)
        self._roster.miss(inquiry.missing)
        number = inquiry.asked.round
        for site, reason in sorted(inquiry.refused.items()):
            self._warn(f"round {number}: {site} refused: {reason}", number)
        answered, asked = len(inquiry.answered), len(inquiry.whom.nodes)
        if answered < inquiry.needed:
            self._warn(
                f"round {number}: {answered} of {asked} sites gave a usable answer, too few", number
            )

    def _hold(self, grid: Grid, state: Checkpoint, question: Question) -> Inquiry:
        """One exchange, and what it says of the sites' being there."""
        inquiry = self.open(state, question)
        training = inquiry.asked.exchange.in_a_round
        self._progress.begin(
            Progress(
                question.kind,
                self._plan.stages[state.closed].name,
                question.number if training else 0,
                self._plan.rounds if training else 0,
                question.step,
                len(inquiry.whom.nodes),
            )
        )
        inquiry.hold(grid, self._progress.count, self._roster.welcome)
        late = inquiry.seconds >= self._plan.deadline
        self._roster.settle(inquiry.answered, inquiry.waiting, late)
        return inquiry

    def _await_sites(self, question: Question) -> None:
        """Wait, for as long as the deadline, until enough sites are there for a quorum."""
        end = time.monotonic() + self._plan.deadline
        warned = False
        while True:
            online = self._roster.refresh()
            there = len(question.sites & online.keys() if question.sites else online)
            wanted, least = self._wanted(question, there)
            if min(there, wanted) >= least or time.monotonic() >= end:
                return
            if not warned:
                warned = True
                away = ", ".join(sorted(question.sites - online.keys()))
                few = f"{there} sites are there, too few for the quorum {self._plan.quorum:g}"
                why = f"what {away} has taken back is there alone" if away else few
                self._warn(
                    f"round {question.number}: {why}: waiting up to {self._plan.deadline:g} s for "
                    f"{away or 'more'}",
                    question.number,
                )
                self._progress.begin(Progress(WAIT))
            self._progress.count(there, math.ceil(least))
            self._roster.wait(LOOK)

    def _wanted(self, question: Question, there: int) -> tuple[int, float]:
        """With so many sites there: the answers that are wanted, and the quorum of them. Sites that
        were to be there and are not count. Of those that take images back all are needed."""
        asks = EXCHANGES[question.kind].asks
        if asks is Asks.TAKING:
            return len(question.sites), float(len(question.sites))
        share = self._plan.share if asks is Asks.SHARE else int
        expected = max(there, self._plan.expected_sites)
        return share(there), max(1.0, self._plan.quorum * share(expected))

    def open(self, state: Checkpoint, question: Question) -> Inquiry:
        """An exchange that nobody has been asked in yet."""
        kind, stage = question.kind, state.closed
        online = self._roster.refresh()
        names = sorted(online)
        wanted, least = self._wanted(question, len(names))
        if EXCHANGES[kind].asks is Asks.SHARE:
            step = 0 if EXCHANGES[kind].in_a_round else question.step
            names = self._roster.choose(question.number, names, step)
        elif EXCHANGES[kind].asks is Asks.TAKING:
            names = [name for name in names if name in question.sites]
        layout = self._model.layout(stage)
        asked = Instruction(
            kind=kind,
            run=self._run,
            round=question.number,
            plan=self._plan,
            stage=stage,
            step=question.step,
            steps=self._steps(state),
            layout=layout.digest,
            state=self._digest(state.groups),
            groups=state.groups,
            probe=question.probe,
            classes=self._roster.classes,
            learned=question.learned,
            sets=question.sets,
            within=question.within,
            about=question.about,
        )
        width = self._model.width(stage, asked.asked)
        asked = replace(asked, centroids=question.centroids or of_width(state.centroids, width))
        sites = dict(self._roster.sites)  # others may come while it is held
        absent = frozenset(sites.keys() - online.keys())
        return Inquiry(
            asked,
            Participants({name: online[name] for name in names}, sites, absent),
            Expected(
                layout,
                width,
                self._model.prepares(stage),
                self._model.landmarks_of(stage, asked.asked),
            ),
            Closing(wanted, least, frozenset(self._roster.tardy)),
            self.changes if EXCHANGES[kind].of_batch and question.step == 1 else None,
        )

    def _steps(self, state: Checkpoint) -> int:
        """Steps of a pass over all sites' images in a synchronous stage, 0 in another: as its first
        round settled them, whoever has come since."""
        stage = self._plan.stages[state.closed]
        if not stage.synchronous:
            return 0
        if STEPS in state.memory:
            return int(state.memory[STEPS][0])
        trained = self._roster.examples * (1 - self._plan.evaluation_share)
        return max(1, math.ceil(trained / stage.batch_size))

    def _digest(self, groups: Groups) -> str:
        """Of groups, which are never changed in place."""
        if self._digested[0] is not groups:
            self._digested = (groups, digest_of(groups))
        return self._digested[1]
