"""An encoder trained on pooled images, in the steps that a federation takes together.

`covey-sync` takes its steps on a batch of all sites' images, and what it trains is what this loop
trains, however the images are spread (`tests/test_synchronous.py` compares the two). Here the
batches are drawn by permutation, and nothing is sent: hours become minutes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from client.statistics.solving import patch_moments
from client.workbench import mixed_precision
from common.augmentations import Augmentation, build_augmentation
from common.config import recipes
from common.config.options import Plan
from common.data import ImageData
from common.models.encoders import Encoder
from common.objectives.base import Batch, Objective
from common.optimisers import build_optimiser, learning_rate
from common.solvers.base import Patches
from common.solvers.patch_pca import PatchPCA
from common.stages import build_stage
from common.utils.seeds import generator

Say = Callable[[str], None]
Pair = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Two views (n, ...) of the images at some rows (n,), by what chance draws."""


@dataclass(frozen=True)
class Training:
    """What is trained and how long; `start`: from everybody's patches, as `covey`'s first stage;
    `seconds`: by the clock, after which it ends whatever is left."""

    objective: str = "spectral-contrastive"
    encoder: str = "small-convnet"
    epochs: int = 24
    batch: int = 256
    rate: float = 1e-3
    start: bool = True
    seconds: float = float("inf")

    def plan(self, seed: int) -> Plan:
        """The plan of `covey-sync` with these."""
        given: dict[str, Any] = {"objective": f",{self.objective},", "encoder": self.encoder}
        given |= {"batch-size": self.batch, "learning-rate": self.rate, "seed": seed}
        return recipes.load("covey-sync").plan(given)


def train(
    training: Training, own: ImageData, seed: int, device: torch.device, say: Say = print
) -> Encoder:
    """The encoder after the training on the images `own`, on `device`."""
    plan = training.plan(seed)
    views = build_augmentation(plan.views, own.kind, own.side)
    images = torch.from_numpy(own.images).to(device)
    objective = build_stage(plan, 1, own.channels, own.side, len(own.classes))
    assert isinstance(objective, Objective)
    if training.start:
        started = build_stage(plan, 0, own.channels, own.side, len(own.classes))
        assert isinstance(started, PatchPCA)
        set_start(started.to(device), views, images)
        objective.encoder.load_state_dict(started.encoder.state_dict())

    def pair(rows: Tensor, chance: torch.Generator) -> tuple[Tensor, Tensor]:
        return views.pair(images[rows], chance)

    return take_steps(training, plan, objective.to(device), len(images), pair, say)


def set_start(solver: PatchPCA, views: Augmentation, images: Tensor) -> None:
    """Set the filters from the patches of all `images`, layer by layer."""
    rows = torch.arange(len(images), device=images.device)
    for statistic in solver.statistics().values():
        assert isinstance(statistic, Patches)
        gram = patch_moments(solver.eval(), views, images, rows, statistic, images.device)
        statistic.solve({"gram": torch.from_numpy(gram)})


def take_steps(
    training: Training, plan: Plan, objective: Objective, count: int, pair: Pair, say: Say = print
) -> Encoder:
    """The objective's encoder, trained on `count` images, of which `pair` gives views."""
    stage, device = plan.stages[1], next(objective.parameters()).device
    objective.train()
    chance = generator(device.type, plan.seed, "pooled training")
    optimiser = build_optimiser(stage, [p for p in objective.parameters() if p.requires_grad])
    a_pass = max(1, count // training.batch)
    steps, began = training.epochs * a_pass, time.monotonic()
    for step in range(steps):
        if step % a_pass == 0:
            order = torch.randperm(count, generator=chance, device=device)
        # By the clock a training that will not end in time still ends with small steps.
        done = max(step / steps, (time.monotonic() - began) / training.seconds)
        if done >= 1:
            break
        rows = order[step % a_pass * training.batch :][: training.batch]
        optimiser.param_groups[0]["lr"] = learning_rate(stage, done)
        a, b = pair(rows, chance)
        with mixed_precision("auto", device):
            terms = objective.terms(objective.represent(Batch(a, b, rows, chance)))
            loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if (step + 1) % (a_pass * max(1, training.epochs // 6)) == 0:
            spent = time.monotonic() - began
            say(f"pass {(step + 1) // a_pass}: loss {loss.item():.3f}, {spent:.0f} s")
    trained: Encoder = objective.encoder.eval()
    return trained
