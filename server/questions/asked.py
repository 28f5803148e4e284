"""A question to a finished run being answered: its state, its sites, and the clusters that come."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from common.clustering.centroids import Centroids
from common.protocol.messages import ALL
from common.record.follow_up import FollowUp, Order
from common.utils.errors import UserError
from common.utils.seeds import derive_seed
from server.clustering import lloyd
from server.conversation.asking import Question
from server.conversation.inquiry import Cost, Inquiry
from server.ending import conclude
from server.run.folder import Checkpoint
from server.strategy import CoveyStrategy

Sums = NDArray[np.float64]
MOST_SMALL = 256  # clusters of a site's own


@dataclass
class Asked:
    """`order` is answered over the sites of a grid, from the state that the run had reached."""

    order: Order
    strategy: CoveyStrategy
    grid: Grid

    def __post_init__(self) -> None:
        self.costs: list[Cost] = []

    @property
    def follow_up(self) -> FollowUp:
        """What is asked."""
        return self.order.follow_up

    @property
    def is_done(self) -> bool:
        """Whether there are new clusters already."""
        return self.strategy.state.closed > self.order.closed

    @cached_property
    def state(self) -> Checkpoint:
        """The run's, at the end of its last stage."""
        last = len(self.strategy.plan.stages) - 1
        return replace(self.strategy.state, closed=last)

    @property
    def centroids(self) -> Centroids:
        """The clusters that the run has."""
        found = self.strategy.state.centroids
        if found is None:
            raise UserError("the run has no centroids")
        return found

    def seed(self, *purpose: str | int) -> int:
        """For what is random about `purpose`."""
        return derive_seed(self.strategy.plan.seed, self.follow_up.kind, *purpose)

    def ask(self, question: Question, state: Checkpoint | None = None) -> Inquiry:
        """One exchange; what it cost is kept."""
        inquiry = self.strategy.asking.hold(self.grid, state or self.state, question)
        self.costs.append(inquiry.cost)
        return inquiry

    def assess(self, clusters: int) -> Inquiry:
        """The sites embed their images, and say where so many clusters of their own are, or
        `MOST_SMALL`."""
        bare, most = replace(self.state, centroids=None), min(MOST_SMALL, clusters)
        return self.ask(Question("assess", self.state.round, sets=(most,)), bare)

    def refine(
        self, sets: Sequence[Centroids], steps: int, within: int = ALL
    ) -> tuple[lloyd.Clustering, tuple[int, ...]]:
        """Lloyd's steps from these sets of any sizes, and the sizes; with `within` over the images
        of that cluster of the first set alone, which then stays as it is."""
        sizes = tuple(len(each.counts) for each in sets)
        points = np.concatenate([each.points for each in sets])
        counts = np.concatenate([each.counts for each in sets]).astype(np.float64)
        now = lloyd.Clustering(points, points * counts[:, None], counts, np.zeros(len(sizes)))
        fixed = 0 if within == ALL else sizes[0]
        most = min(steps, lloyd.steps(self.strategy.plan.participation))
        for number in range(1, most + 1):
            sent = now.sent()
            question = Question(
                "lloyd", self.state.round, sent, step=number, sets=sizes, within=within
            )
            inquiry = self.ask(question)
            before, now = now, lloyd.step(now, inquiry.measured, inquiry.share)
            now.points[:fixed] = points[:fixed]
            if lloyd.has_settled(before, now):
                break
        return now, sizes

    def end_with(self, centroids: Centroids, name: str, assessed: Inquiry) -> None:
        """Score these clusters, and make them the run's."""
        strategy, state = self.strategy, replace(self.state, centroids=centroids)
        sets = (len(centroids.counts),)
        stage = strategy.plan.stages[-1]
        told = conclude(
            lambda at, question: strategy.asking.hold(self.grid, at, question),
            state,
            stage.model_copy(update={"clusters_from": "centroids"}),
            assessed.measured,
            self.costs,
            further=(),
            sets=sets,
        )
        at = self.order.closed
        strategy.folder.log(told.model_copy(update={"stage": at, "stage_name": name}))
        strategy.advance(replace(state, closed=at + 1))
