"""The global model, as the server needs it: what it starts from, and how its arrays lie.

The server builds a stage's modules for their shapes and initial values; it never runs them.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from common.clustering.centroids import Centroids
from common.config.options import Plan
from common.objectives import build_stage
from common.objectives.base import Objective
from common.protocol import layout
from common.protocol.messages import Floats, Groups


class GlobalModel:
    """The modules of the plan's stages for images of `channels` × `side` × `side`."""

    def __init__(self, plan: Plan, channels: int, side: int) -> None:
        self._plan = plan
        self._channels, self._side = channels, side
        self._built: tuple[int, Objective] | None = None

    def objective(self, stage: int) -> Objective:
        """The stage's objective, initialised from the plan's seed."""
        if self._built is None or self._built[0] != stage:
            plan = self._plan
            built = build_stage(plan, stage, self._channels, self._side, plan.clusters)
            self._built = (stage, built)
        return self._built[1]

    def layout(self, stage: int) -> layout.Layout:
        """Names and shapes of what the stage shares."""
        return layout.layout_of(self.objective(stage).shared())

    def parameters(self, stage: int) -> int:
        """Numbers in what the stage shares."""
        shared = self.layout(stage)
        return sum(shared.size(group) for group in shared.groups)

    def width(self, stage: int, asked: str) -> int:
        """Numbers in one embedding, or in one of the points that something is solved from."""
        return self.objective(stage).width_for(asked, self._plan.stages[stage].embedding)

    def enter(self, stage: int, learned: Groups, centroids: Centroids | None) -> dict[str, Floats]:
        """The state that a stage starts from: from the seed, with what was learned before it.

        All sites start from the same heads, or averaging would mix permuted clusters. A head takes
        encoder outputs, so it starts from centroids only where those are of encoder outputs.
        """
        objective = self.objective(stage)
        before = self._plan.stages[stage - 1] if stage else None
        if centroids is not None and before is not None and before.embedding == "encoder":
            objective.start_from(torch.from_numpy(centroids.points))
        initial = layout.flatten(objective.shared())
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
        """The groups after the stage's objective has solved its closed form from what all sites
        sent (`Objective.solve`)."""
        objective = self.objective(stage)
        layout.load(objective.shared(), groups)
        objective.solve(asked, {name: torch.from_numpy(value) for name, value in sums.items()})
        solved = layout.flatten(objective.shared())
        return {name: solved[name] for name in groups}

    def encoder_tensors(self, stage: int, groups: Groups) -> dict[str, Floats]:
        """The encoder's tensors by name, for publishing."""
        objective = self.objective(stage)
        layout.load(objective.shared(), groups)
        state = objective.encoder.state_dict()
        return {name: tensor.float().numpy() for name, tensor in state.items()}
