"""The end of a stage: exchanges without training that give its final clusters and figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from common.clustering.centroids import Centroids
from common.config.options import Plan, Stage
from common.protocol.exchanges import EXCHANGES
from common.record.schema import StageEvent
from common.utils.errors import UserError
from common.utils.seeds import derive_seed
from server.clustering import lloyd
from server.clustering.rules import CENTROID_RULES, STEPPING
from server.conclusions import CONCLUSIONS
from server.conversation.asking import Question
from server.conversation.inquiry import Cost, Inquiry, account
from server.measurements import Measurements, clusterer, clustering, drop_none, sizes_of
from server.run.folder import Checkpoint

Ask = Callable[[Checkpoint, Question], Inquiry]
"""Holds one exchange about a state."""

FURTHER = tuple(kind for kind, each in EXCHANGES.items() if each.figures)
"""What is asked beside the clusters and their scores, for its figures' sake."""


@dataclass(frozen=True)
class Ending:
    """Ends the stage `state.closed` of `plan`. `spent`: what its beginning cost; `starts`: what
    k-means starts from, where not from the sites' own clusters."""

    plan: Plan
    ask: Ask
    spent: list[Cost] = field(default_factory=list)
    starts: Centroids | None = None

    def __call__(self, state: Checkpoint) -> tuple[Checkpoint, StageEvent]:
        """The state with the stage's final centroids, closed, and what is to be told of it.
        `UserError` where no site has enough images for one centroid."""
        index, number = state.closed, state.round
        stage = self.plan.stages[index]
        assessed = self.ask(state, Question("assess", number))
        measured = assessed.measured
        seed = derive_seed(self.plan.seed, "close", number)
        local = measured.centroids if self.starts is None else [("", self.starts)]
        if not local:
            raise UserError(f"stage {stage.name!r}: no site has enough images for one centroid")
        k = self.plan.clusters
        centroids = CENTROID_RULES[stage.centroids](local, state.centroids, k, seed).centroids
        costs = [*self.spent, assessed.cost]
        if stage.centroids in STEPPING:
            sets = lloyd.starts(local, centroids, k, seed)
            sets, steps = self._refine(state, sets)
            costs += steps
            centroids = lloyd.best(sets, state.centroids)
        state = replace(state, centroids=centroids)
        told = conclude(self.ask, state, stage, measured, costs)
        return replace(state, closed=index + 1), told

    def _refine(
        self, state: Checkpoint, sets: lloyd.Clustering
    ) -> tuple[lloyd.Clustering, list[Cost]]:
        """Federated Lloyd steps from `sets`, each of which asks a part of the sites where rounds
        do; what they cost."""
        costs: list[Cost] = []
        for number in range(1, lloyd.steps(self.plan.participation) + 1):
            question = Question("lloyd", state.round, centroids=sets.sent(), step=number)
            inquiry = self.ask(state, question)
            costs.append(inquiry.cost)
            before, sets = sets, lloyd.step(sets, inquiry.measured, inquiry.share)
            if lloyd.has_settled(before, sets):
                break
            sets = lloyd.fewer(sets, number, self.plan.participation)
        return sets, costs


def conclude(
    ask: Ask,
    state: Checkpoint,
    stage: Stage,
    assessed: Measurements,
    costs: list[Cost],
    further: Sequence[str] = FURTHER,
    sets: tuple[int, ...] = (),
) -> StageEvent:
    """What is to be told of the state's centroids at the end of `stage`, whose sites have been
    `assessed`; what that and all before it cost is in `costs`. `further`: exchanges that are held
    for their figures; `sets`: how many clusters there are, where not as many as the plan says."""
    number = state.round
    scored = ask(state, Question("score", number, probe=assessed.probe(), sets=sets))
    by = clusterer(stage, scored.measured)
    assigned = scored.measured.assigned(by)
    figures = {
        **clustering(assigned),
        **CONCLUSIONS["score"](scored.measured),
        **CONCLUSIONS["assess"](assessed),
    }
    for kind in further:
        inquiry = ask(state, Question(kind, number))
        figures |= CONCLUSIONS[kind](inquiry.measured)
        costs.append(inquiry.cost)
    cells = None if assigned is None else assigned.cells
    return StageEvent(
        stage=state.closed,
        stage_name=stage.name,
        round=number,
        by=by,
        figures=drop_none(figures),
        cluster_sizes=sizes_of(assigned),
        table=None if cells is None else cells.tolist(),
        labelled=assigned.sites if assigned is not None else None,
        **account(scored, costs),
    )
