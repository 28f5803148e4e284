"""A stage's solver being solved: its statistics' exchanges, and what each adds up to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from common.clustering.centroids import Centroids
from common.config.options import Plan
from common.protocol.exchanges import EXCHANGES
from common.protocol.messages import Counts
from common.solvers.base import Landmarks, LandmarkSums, Statistic, Trial
from common.utils.seeds import derive_seed
from server.clustering.landmarks import near_their_own, shared_landmarks
from server.clustering.splitting import split_landmarks
from server.conversation.asking import Question
from server.conversation.inquiry import Cost, Inquiry
from server.measurements import Measurements
from server.model import GlobalModel
from server.run.folder import Checkpoint

Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Solving:
    """Solves the solver of the stage `index` of `plan`, if it has one. `ask` holds one exchange;
    `warn` says that something is wrong in a round; `costs`: what they took."""

    plan: Plan
    model: GlobalModel
    ask: Callable[[Checkpoint, Question], Inquiry]
    index: int
    warn: Callable[[str, int], None]
    costs: list[Cost] = field(default_factory=list)

    def __call__(self, state: Checkpoint) -> Checkpoint:
        """The state with what was solved, one statistic after the other."""
        for asked, statistic in self.model.statistics(self.index).items():
            if self.model.skips(self.index, asked):
                continue
            if isinstance(statistic, LandmarkSums):
                sums = self._split(state, statistic)
            else:
                sums = self._sums(state, asked, statistic)
            self._look(state, sums)
            groups = self.model.solve(self.index, state.groups, asked, sums)
            state = replace(state, groups=groups)
        return state

    def _look(self, state: Checkpoint, sums: Values) -> None:
        """Say it where so few landmarks cannot tell the clusters apart."""
        found, clusters = len(sums.get("points", ())), self.plan.clusters
        if 0 < found < clusters:
            self.warn(
                f"{found} landmarks for {clusters} clusters: so few images do not come apart like "
                "this. Fewer behind each landmark (--parameters images=5) give more landmarks",
                state.round,
            )

    @property
    def _seed(self) -> int:
        return derive_seed(self.plan.seed, "landmarks", self.index)

    def _held(self, state: Checkpoint, question: Question) -> Measurements:
        inquiry = self.ask(state, question)
        self.costs.append(inquiry.cost)
        return inquiry.measured

    def _sums(self, state: Checkpoint, asked: str, statistic: Statistic) -> Values:
        """What the statistic is solved from, by name."""
        kind, _, step = asked.partition(".")
        given = scores_of(statistic)
        measured = self._held(state, Question(kind, state.round, given, step=int(step or 0)))
        if isinstance(statistic, Landmarks):
            lists = measured.centroids
            points = shared_landmarks(lists, statistic.in_all, self._seed)
            return {"points": points, **(near_their_own(lists) if statistic.compares else {})}
        found = {each.name: measured.totals.added(each) for each in EXCHANGES[kind].sums}
        return {name: total for name, total in found.items() if total is not None}

    def _split(self, state: Checkpoint, statistic: LandmarkSums) -> Values:
        """The landmarks, in as many exchanges as it takes."""
        number = 0

        def step(centres: Centroids) -> tuple[NDArray[np.float64], Counts]:
            nonlocal number
            number += 1
            sets = (len(centres.counts),)
            question = Question(statistic.kind, state.round, centres, step=number, sets=sets)
            totals = self._held(state, question).totals
            sums, counts = totals.sum("sums"), totals.table("lloyd")
            assert sums is not None and counts is not None  # replies without these are refused
            return sums, counts.sizes

        wanted, least = statistic.wanted, statistic.least
        return {"points": split_landmarks(step, statistic.width, wanted, least, self._seed)}


def scores_of(statistic: Statistic) -> Centroids | None:
    """What the sites score by in a trial, as the centroids that a message brings; None where the
    statistic is another one."""
    if not isinstance(statistic, Trial):
        return None
    scores = statistic.scores().float().numpy()
    return Centroids(scores, np.ones(len(scores), np.int64))
