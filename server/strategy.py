"""The strategy: a recipe's stages as rounds of one message per site.

Each round asks every chosen site to measure the state that it receives and then to train on it; the
answers are folded into the aggregate as they arrive. When a stage ends, two short exchanges without
training give its final centroids and scores. The state after every round is on disk before the next
begins. `run` is our own loop; Flower's, `start`, gives the same bits.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from common import metrics
from common.config.options import Plan
from common.protocol.layout import digest_of
from common.protocol.messages import Kind
from common.record.schema import NoteEvent, RoundEvent, WarningEvent
from common.utils.errors import UserError
from common.utils.seeds import derive_seed
from server.aggregation.optimisers import OPTIMISERS
from server.aggregation.stepping import STEPS, step_as_told
from server.conversation.asking import Asking, Question
from server.conversation.inquiry import Cost, Inquiry, account
from server.conversation.roster import Roster
from server.ending import Ending
from server.measurements import clusterer, clustering, sizes_of
from server.model import GlobalModel
from server.run.folder import Checkpoint, RunFolder
from server.solving import Solving

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
        run, progress = folder.name, folder.progress
        self.asking = Asking(plan, run, roster, self.model, self.warn, progress)
        self.state = folder.checkpoint() or Checkpoint(0, 0, {})
        self._collapsed = False  # as it was when last looked at
        self._entered: int | None = None  # the stage that has begun in this process
        self._solved: list[Cost] = []  # what its beginning cost
        self._open: tuple[Inquiry, list[Cost]] | None = None  # a round that Flower's loop holds
        self._given = ""  # the digest of the groups that Flower's loop was given last
        self._figures: dict[str, float] = {}  # of stages that have ended, for Flower's loop

    def run(self, grid: Grid) -> None:
        """Our own loop: do what the checkpoint has not done yet."""
        self.folder.take_back(self.state)
        self._end_stages(grid)
        while not self.is_over:
            self._enter_stage(grid, self.state.closed)
            spent = self._prepare(grid, self.state.round + 1)
            self._end_round(self._ask(grid, self._training, self.state.round + 1), spent)
            self._end_stages(grid)

    @property
    def is_over(self) -> bool:
        """Whether every stage has ended."""
        return self.state.closed >= len(self.plan.stages)

    @property
    def _training(self) -> Kind:
        """The exchange that a round of the stage is."""
        return "gradient" if self.plan.stages[self.state.closed].synchronous else "train"

    @property
    def arrays(self) -> ArrayRecord:
        """The global model as it is: a flat array for each group of what the stage shares."""
        return ArrayRecord({name: Array(array) for name, array in self.state.groups.items()})

    def _end_stages(self, grid: Grid) -> None:
        """End the stages whose rounds are done, and those after them that have none."""
        while not self.is_over:
            index = self.state.closed
            if self.state.round < self.plan.rounds_before(index + 1):
                return
            if not self.plan.stages[index].rounds:
                self._enter_stage(grid, index)
            elif self.state.round == self.plan.rounds and index + 1 < len(self.plan.stages):
                self.folder.keep_trained(self.state)
            starts = self.model.starts(index, self.state.groups)
            ending = Ending(self.plan, partial(self.asking.hold, grid), self._solved, starts)
            state, told = ending(self.state)
            self.folder.log(told)
            self._warn_of_collapse(state.round, told.figures)
            self._figures |= {f"{told.stage_name}.{k}": v for k, v in told.figures.items()}
            self.advance(state)

    def _enter_stage(self, grid: Grid, index: int) -> None:
        """Before a stage's first round: the state that it starts from."""
        if self.state.round > self.plan.rounds_before(index) or self._entered == index:
            return
        self._entered = index
        groups = self.model.enter(index, self.state.groups, self.state.centroids)
        self.state = replace(self.state, groups=groups, memory={})
        solving = Solving(self.plan, self.model, partial(self.asking.hold, grid), index, self.warn)
        self.state = solving(self.state)
        self._solved = solving.costs
        if chosen := self.model.said(index):
            self.note(f"stage {self.plan.stages[index].name!r}: {chosen}", self.state.round)

    def _prepare(self, grid: Grid, number: int) -> list[Cost]:
        """Before a round of an objective that `prepares`: the mean of what the sites share first,
        from the model that all have received; what it cost."""
        costs = []
        for kind, each in self.model.preparations(self.state.closed):
            exchange = self._ask(grid, kind, number, step=each)
            if exchange.update.examples:
                groups = {**self.state.groups, **exchange.update.result()}
                self.state = replace(self.state, groups=groups)
            costs.append(exchange.cost)
        return costs

    def _end_round(self, inquiry: Inquiry, spent: Sequence[Cost]) -> None:
        """The state after a training round, from what the sites answered; `spent`: before it."""
        number, measured = inquiry.asked.round, inquiry.measured
        stage = self.plan.stages[self.plan.stage_of(number)[0]]
        if stage.synchronous:
            self._end_step(inquiry, spent)
            return
        seed = derive_seed(self.plan.seed, "merge", number)
        merged = measured.merge(stage.centroids, self.state.centroids, seed)
        by = clusterer(stage, measured)
        assigned = measured.assigned(by, merged)
        received = clustering(assigned) | measured.spread()
        self._log_round(inquiry, spent, received, sizes_of(assigned))
        self._warn_of_collapse(number, received)
        centroids = merged.centroids if merged else self.state.centroids
        groups, memory = OPTIMISERS[stage.server_optimiser](
            self.state.groups,
            inquiry.update.result(),
            self.state.memory,
            stage.server_learning_rate,
        )
        self.advance(Checkpoint(number, self.state.closed, groups, centroids, memory))

    def _end_step(self, inquiry: Inquiry, spent: Sequence[Cost]) -> None:
        """The state after a step on one batch of all sites' images. Of a batch of which no site has
        enough there is nothing to learn, and the state is as it was."""
        number = inquiry.asked.round
        index, stage_round = self.plan.stage_of(number)
        stage, state = self.plan.stages[index], self.state
        self._log_round(inquiry, spent, {}, ())
        groups, memory = dict(state.groups), dict(state.memory)
        self.asking.changes = {}
        if inquiry.update.examples:
            gradient, seed = inquiry.update.result(), derive_seed(self.plan.seed, "step", number)
            taken = step_as_told(stage, state.groups, gradient, state.memory, stage_round, seed)
            memory, self.asking.changes = taken.memory, taken.changes
            groups = self.model.tracked(index, taken.groups, inquiry.update.examples)
        memory[STEPS] = np.array([inquiry.asked.steps], np.float32)
        self.advance(Checkpoint(number, state.closed, groups, state.centroids, memory))

    def _log_round(
        self,
        inquiry: Inquiry,
        spent: Sequence[Cost],
        received: Mapping[str, float],
        cluster_sizes: Sequence[int],
    ) -> None:
        """Write a training round into the run's metrics, with what was measured of the model that
        it brought."""
        index, stage_round = self.plan.stage_of(inquiry.asked.round)
        self.folder.log(
            RoundEvent(
                round=inquiry.asked.round,
                stage=index,
                stage_name=self.plan.stages[index].name,
                stage_round=stage_round,
                loss=inquiry.measured.losses(),
                received=received,
                cluster_sizes=cluster_sizes,
                **account(inquiry, spent),
            )
        )

    def advance(self, state: Checkpoint) -> None:
        """Go on from this state, which is on disk then."""
        self.state = state
        self.folder.save(state)

    def _ask(self, grid: Grid, kind: Kind, number: int, **more: Any) -> Inquiry:
        """One exchange about the state as it is (`Asking.hold`)."""
        return self.asking.hold(grid, self.state, Question(kind, number, **more))

    # What Flower's own loop, `start`, calls: it sends and hears a round's messages, and what comes
    # before and after a round is held on the grid that it hands over. The plan says how many rounds
    # there are; any that are left to Flower's loop after them ask for nothing.

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of the next training round, one per chosen site. `arrays`: what the round
        before gave, or other groups of the same names, from which training then goes on.
        `server_round` counts rounds that failed, too."""
        self._take(arrays)
        self._end_stages(grid)
        if self.is_over:
            return []
        self._enter_stage(grid, self.state.closed)
        number = self.state.round + 1
        spent = self._prepare(grid, number)
        inquiry = self.asking.open(self.state, Question(self._training, number))
        self._open = inquiry, spent
        return list(inquiry.messages().values())

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Fold `replies` (any iterable, consumed once) to the next state, which is on disk then; it
        and the mean losses. None where too few sites answered: the round is asked for again."""
        if self._open is None:
            return None, None
        (inquiry, spent), self._open = self._open, None
        self.asking.conclude(inquiry, replies)
        if len(inquiry.answered) < inquiry.needed:
            return None, None
        self._end_round(inquiry, spent)
        self._given = digest_of(self.state.groups)
        return self.arrays, MetricRecord(dict(inquiry.measured.losses()))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """None: a round's one message measures what it brings before it trains. What a stage ends
        with takes several exchanges, which are held here where its rounds are done."""
        self._end_stages(grid)
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The figures of the stages that have ended, as "stage.figure"; None where none has."""
        figures, self._figures = self._figures, {}
        return MetricRecord(dict(figures)) if figures else None

    def _take(self, arrays: ArrayRecord) -> None:
        """Go on from `arrays` where they are not what was given away last; `UserError` for one that
        is not of this model."""
        given = {name: array.numpy().astype(np.float32) for name, array in arrays.items()}
        if not given or digest_of(given) in (self._given, digest_of(self.state.groups)):
            return
        layout = self.model.layout(min(self.state.closed, len(self.plan.stages) - 1))
        for name, array in given.items():
            if name not in layout.groups or array.shape != (layout.size(name),):
                raise UserError(f"the arrays have {name!r}: not a group of this model")
        self.state = replace(self.state, groups={**self.state.groups, **given})

    def summary(self) -> None:
        """Note the plan in a line per stage."""
        for stage in self.plan.stages:
            rounds = f"{stage.rounds} rounds" if stage.rounds else "no training"
            LOG.info("%s: %s, %s", stage.name, stage.method, rounds)

    def note(self, text: str, number: int) -> None:
        """Say it, and write it into the run's metrics: nothing is wrong."""
        LOG.info("%s", text)
        self.folder.log(NoteEvent(round=number, text=text))

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
