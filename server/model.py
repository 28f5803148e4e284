"""The global model, as the server needs it: what it starts from, and how its arrays lie.

The server builds a stage's modules for their shapes and initial values; it runs none on images.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from common.clustering.centroids import Centroids
from common.config.options import Plan
from common.models.model import Model
from common.models.pretrained.store import WeightStore
from common.objectives.base import Objective
from common.objectives.pooled import Pooled
from common.protocol import layout
from common.protocol.messages import Floats, Groups
from common.solvers.base import Landmarks, Solver, Statistic, statistics_of, width_of
from common.stages import build_stage
from common.utils.threads import threads


class GlobalModel:
    """The modules of the plan's stages for images of `channels` × `side` × `side`."""

    def __init__(
        self, plan: Plan, channels: int, side: int, weights: WeightStore | None = None
    ) -> None:
        self._plan = plan
        self._channels, self._side = channels, side
        # Of a frozen encoder there is nothing to send: its shape is enough.
        self._weights = (weights or WeightStore()) if plan.train_from else None
        self._built: tuple[int, Model] | None = None

    def of(self, stage: int) -> Model:
        """The stage's modules, initialised from the plan's seed."""
        if self._built is None or self._built[0] != stage:
            plan = self._plan
            shape = self._channels, self._side
            built = build_stage(plan, stage, *shape, plan.clusters, self._weights)
            self._built = (stage, built)
        return self._built[1]

    def layout(self, stage: int) -> layout.Layout:
        """Names and shapes of what the stage shares."""
        return layout.layout_of(self.of(stage).shared())

    def parameters(self, stage: int) -> int:
        """Numbers in what the stage shares."""
        shared = self.layout(stage)
        return sum(shared.size(group) for group in shared.groups)

    def width(self, stage: int, asked: str) -> int:
        """Numbers in one embedding, or in one of the points that something is solved from."""
        return width_of(self.of(stage), asked, self._plan.stages[stage].embedding)

    def prepares(self, stage: int) -> str:
        """The module that the stage's rounds begin with (`Objective.prepares`), if any."""
        model = self.of(stage)
        return model.prepares if isinstance(model, Objective) else ""

    def preparations(self, stage: int) -> list[tuple[str, int]]:
        """Kind and step of the exchanges that a round of the stage begins with."""
        model = self.of(stage)
        if not self.prepares(stage):
            return []
        if self._plan.stages[stage].synchronous and isinstance(model, Pooled):
            return [("statistics", number) for number in range(1, model.exchanges + 1)]
        return [("prepare", 0)]

    def tracked(self, stage: int, groups: Groups, images: int) -> dict[str, Floats]:
        """The groups after running statistics have moved on by a synchronous step on so many
        images; they hold its moments."""
        model = self.of(stage)
        buffers = [name for name in groups if name.endswith(layout.BUFFERS)]
        if not buffers or not isinstance(model, Pooled):
            return dict(groups)
        layout.load(model.shared(), groups)
        model.track(images)
        now = layout.flatten(model.shared())
        return {**groups, **{name: now[name] for name in buffers}}

    def statistics(self, stage: int) -> Mapping[str, Statistic]:
        """What the stage's solver asks the sites for; nothing of a stage that is trained."""
        return statistics_of(self.of(stage))

    def skips(self, stage: int, asked: str) -> bool:
        """Whether the stage's solver needs a statistic no more."""
        model = self.of(stage)
        return isinstance(model, Solver) and model.skips(asked)

    def said(self, stage: int) -> str:
        """What the stage's solver has chosen, if it chooses."""
        model = self.of(stage)
        return model.said() if isinstance(model, Solver) else ""

    def landmarks_of(self, stage: int, asked: str) -> Callable[[int], int] | None:
        """How many landmarks a site with so many images may send; None where it sends others."""
        statistic = self.statistics(stage).get(asked)
        return statistic.at_most if isinstance(statistic, Landmarks) else None

    def enter(self, stage: int, learned: Groups, centroids: Centroids | None) -> dict[str, Floats]:
        """The state that a stage starts from: from the seed, with what was learned before it.

        All sites start from the same heads, or averaging would mix permuted clusters. A head takes
        encoder outputs, so it starts from centroids only where those are of encoder outputs.
        """
        model = self.of(stage)
        before = self._plan.stages[stage - 1] if stage else None
        on_outputs = before is not None and before.embedding == "encoder"
        if centroids is not None and on_outputs and isinstance(model, Objective):
            model.start_from(torch.from_numpy(centroids.points))
        initial = layout.flatten(model.shared())
        groups = {
            name: learned[name] if name in learned and learned[name].shape == array.shape else array
            for name, array in initial.items()
        }
        if self._plan.batchnorm == "average":
            return groups
        return {name: a for name, a in groups.items() if not name.endswith(layout.BUFFERS)}

    def solve(
        self, stage: int, groups: Groups, asked: str, sums: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Floats]:
        """The groups after the closed form of the statistic that was `asked` for, from what all
        sites have sent; the same bits on any number of cores."""
        model = self.of(stage)
        layout.load(model.shared(), groups)
        found = {name: torch.from_numpy(value) for name, value in sums.items()}
        with threads(1):
            self.statistics(stage)[asked].solve(found)
        solved = layout.flatten(model.shared())
        return {name: solved[name] for name in groups}

    def starts(self, stage: int, groups: Groups) -> Centroids | None:
        """What k-means starts from at the end of a stage that has been solved; None where it starts
        from the sites' own clusters."""
        model = self.of(stage)
        if not isinstance(model, Solver) or not model.has_starts:
            return None
        layout.load(model.shared(), groups)
        with threads(1):
            return model.eval().starts()

    def encoder_tensors(self, stage: int, groups: Groups) -> dict[str, Floats]:
        """The encoder's tensors by name, for publishing."""
        objective = self.of(stage)
        layout.load(objective.shared(), groups)
        state = objective.encoder.state_dict()
        return {name: tensor.float().numpy() for name, tensor in state.items()}
