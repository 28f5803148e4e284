"""The strategy: a recipe's stages as rounds of one message per site.

Each round asks every chosen site to measure the state that it receives and then to train on it; the
answers are folded into the aggregate as they arrive. When a stage ends, two short exchanges without
training give its final centroids and scores. The state after every round is on disk before the next
begins.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from common import metrics
from common.config.options import Plan
from common.protocol.exchanges import EXCHANGES
from common.protocol.messages import Kind
from common.record.schema import RoundEvent, StageEvent, WarningEvent
from common.solvers.base import Landmarks
from common.utils.errors import UserError
from common.utils.seeds import derive_seed
from server.aggregation.optimisers import OPTIMISERS
from server.clustering import lloyd
from server.clustering.rules import STEPPING, shared_landmarks
from server.conversation.asking import Asking, Question
from server.conversation.inquiry import Cost, Inquiry, account
from server.conversation.roster import Roster
from server.measurements import clusterer, clustering, final_figures, sizes_of
from server.model import GlobalModel
from server.run.folder import Checkpoint, RunFolder

LOG = logging.getLogger(__name__)


class CoveyStrategy(Strategy):
    """Runs a plan's stages over the sites of a grid and keeps the run folder.

    `plan` has `clusters` settled; `roster` has gathered the sites.
    """

    def __init__(self, plan: Plan, folder: RunFolder, roster: Roster) -> None:
        self.plan = plan
        self.folder = folder
        self.roster = roster
        site = next(iter(roster.sites.values()))
        self.model = GlobalModel(plan, site.channels, site.side)
        roster.warn = lambda text: self.warn(text, self.state.round)
        run, progress = folder.name, folder.progress
        self.asking = Asking(plan, run, roster, self.model, self.warn, progress)
        self.state = folder.checkpoint() or Checkpoint(0, 0, {})
        self._training: Inquiry | None = None
        self._collapsed = False  # as it was when last looked at
        self._solved: list[Cost] = []  # of what the stage began with, until it is accounted for

    def start(  # type: ignore[override]
        self, grid: Grid, initial_arrays: ArrayRecord | None = None, **_: Any
    ) -> Result:
        """Do what the checkpoint has not done yet. The plan decides rounds and deadlines, so the
        arguments that Flower's own strategies take are not used."""
        self.folder.take_back(self.state)
        while self.state.closed < len(self.plan.stages):
            index = self.state.closed
            self._enter_stage(grid, index)
            if self.state.round < self.plan.rounds_before(index + 1):
                self._train_round(grid, self.state.round + 1)
            else:
                self._close_stage(grid, index)
        result = Result()
        result.arrays = ArrayRecord(list(self.state.groups.values()))
        return result

    def _enter_stage(self, grid: Grid, index: int) -> None:
        """Before a stage's first round: the state that it starts from."""
        if self.state.round > self.plan.rounds_before(index):
            return
        groups = self.model.enter(index, self.state.groups, self.state.centroids)
        self.state = replace(self.state, groups=groups, memory={})
        self._solved = []
        for asked, statistic in self.model.statistics(index).items():
            kind, _, step = asked.partition(".")
            exchange = self._ask(grid, kind, self.state.round, step=int(step or 0))
            if isinstance(statistic, Landmarks):
                seed, most = derive_seed(self.plan.seed, "landmarks", index), statistic.in_all
                sums = {"points": shared_landmarks(exchange.measured.centroids, most, seed)}
            else:
                totals = exchange.measured.totals
                found = {each.name: totals.sum(each.name) for each in EXCHANGES[kind].sums}
                sums = {name: total for name, total in found.items() if total is not None}
            groups = self.model.solve(index, self.state.groups, asked, sums)
            self.state = replace(self.state, groups=groups)
            self._solved.append(exchange.cost)

    def _prepare(self, grid: Grid, number: int) -> list[Cost]:
        """Before a round of an objective that `prepares`: the mean of what the sites share first,
        from the model that all have received; what it cost."""
        if not self.model.prepares(self.state.closed):
            return []
        exchange = self._ask(grid, "prepare", number)
        groups = {**self.state.groups, **exchange.update.result()}
        self.state = replace(self.state, groups=groups)
        return [exchange.cost]

    def _train_round(self, grid: Grid, number: int) -> None:
        index, stage_round = self.plan.stage_of(number)
        stage = self.plan.stages[index]
        spent = self._prepare(grid, number)
        exchange = self._ask(grid, "train", number)
        measured = exchange.measured
        seed = derive_seed(self.plan.seed, "merge", number)
        merged = measured.merge(stage.centroids, self.state.centroids, seed)
        by = clusterer(stage, measured)
        assigned = measured.assigned(by, merged)
        received = clustering(assigned) | measured.spread()
        self.folder.log(
            RoundEvent(
                round=number,
                stage=index,
                stage_name=stage.name,
                stage_round=stage_round,
                loss=measured.losses(),
                received=received,
                cluster_sizes=sizes_of(assigned),
                **account(exchange, spent),
            )
        )
        self._warn_of_collapse(number, received)
        centroids = merged.centroids if merged else self.state.centroids
        groups, memory = OPTIMISERS[stage.server_optimiser](
            self.state.groups,
            exchange.update.result(),
            self.state.memory,
            stage.server_learning_rate,
        )
        self._advance(Checkpoint(number, self.state.closed, groups, centroids, memory))

    def _close_stage(self, grid: Grid, index: int) -> None:
        """The stage's final figures: centroids and moments of the final state, then the scores of
        the merged centroids and the probe."""
        stage, number = self.plan.stages[index], self.state.round
        assessed = self._ask(grid, "assess", number)
        measured = assessed.measured
        seed = derive_seed(self.plan.seed, "close", number)
        merged = measured.merge(stage.centroids, self.state.centroids, seed)
        if merged is None:
            raise UserError(f"stage {stage.name!r}: no site has enough images for one centroid")
        spent = [*self._solved, assessed.cost]
        self._solved = []
        centroids = merged.centroids
        if stage.centroids in STEPPING:
            sets = lloyd.starts(measured.centroids, centroids, self.plan.clusters, seed)
            centroids = lloyd.best(self._refine(grid, sets, spent), self.state.centroids)
        self.state = replace(self.state, centroids=centroids)
        scored = self._ask(grid, "score", number, probe=measured.probe())
        by = clusterer(stage, scored.measured)
        figures = final_figures(measured, scored.measured, by)
        assigned = scored.measured.assigned(by)
        cells = None if assigned is None else assigned.cells
        self.folder.log(
            StageEvent(
                stage=index,
                stage_name=stage.name,
                round=number,
                by=by,
                figures=figures,
                cluster_sizes=sizes_of(assigned),
                table=None if cells is None else cells.tolist(),
                **account(scored, spent),
            )
        )
        self._warn_of_collapse(number, figures)
        self._advance(replace(self.state, closed=index + 1))

    def _refine(self, grid: Grid, sets: lloyd.Clustering, spent: list[Cost]) -> lloyd.Clustering:
        """Federated Lloyd steps from `sets`, each of which asks a part of the sites where rounds
        do; `spent` gets what they cost."""
        for number in range(1, lloyd.steps(self.plan.participation) + 1):
            exchange = self._ask(
                grid, "lloyd", self.state.round, centroids=sets.sent(), step=number
            )
            spent.append(exchange.cost)
            before, sets = sets, lloyd.step(sets, exchange.measured, exchange.share)
            if lloyd.has_settled(before, sets):
                break
            sets = lloyd.fewer(sets, number, self.plan.participation)
        return sets

    def _advance(self, state: Checkpoint) -> None:
        self.state = state
        self.folder.save(state)

    def _ask(self, grid: Grid, kind: Kind, number: int, **more: Any) -> Inquiry:
        """One exchange about the state as it is (`Asking.hold`)."""
        return self.asking.hold(grid, self.state, Question(kind, number, **more))

    # What Flower asks of a strategy. `start` holds exchanges as a whole; these are the same steps
    # one by one, for a loop other than ours.

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of a training round, one per chosen site."""
        self._enter_stage(grid, self.state.closed)
        self._prepare(grid, server_round)
        self._training = self.asking.open(self.state, Question("train", server_round))
        return list(self._training.messages().values())

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Fold `replies` (any iterable, consumed once) to the mean state and its losses."""
        if self._training is None:
            raise ValueError("configure_train comes first")
        exchange, self._training = self._training, None
        exchange.fold(_named(exchange.whom.nodes, replies))
        if not exchange.answered:
            return None, None
        arrays = ArrayRecord(list(exchange.update.result().values()))
        return arrays, MetricRecord(dict(exchange.measured.losses()))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """None: a round's one message measures what it brings before it trains."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """None, as `configure_evaluate` asks for nothing."""
        return None

    def summary(self) -> None:
        """Note the plan in a line per stage."""
        for stage in self.plan.stages:
            rounds = f"{stage.rounds} rounds" if stage.rounds else "no training"
            LOG.info("%s: %s, %s", stage.name, stage.method, rounds)

    def warn(self, text: str, number: int) -> None:
        """Say it, and write it into the run's metrics."""
        LOG.warning("%s", text)
        self.folder.log(WarningEvent(round=number, text=text))

    def _warn_of_collapse(self, number: int, figures: Mapping[str, Any]) -> None:
        """Once, and again only where they had recovered."""
        before, self._collapsed = self._collapsed, metrics.is_collapsed(figures.get("std", 1.0))
        if self._collapsed and not before:
            self.warn(
                f"embeddings are collapsing: their std is {figures['std']:.3f} of a healthy one "
                "(the model hardly tells the images apart, or they are all alike)",
                number,
            )


def _named(nodes: Mapping[str, int], replies: Iterable[Message]) -> Iterator[tuple[str, Message]]:
    sites = {node: site for site, node in nodes.items()}
    for message in replies:
        if message.metadata.src_node_id in sites:
            yield sites[message.metadata.src_node_id], message
