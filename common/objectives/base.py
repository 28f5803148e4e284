"""What an objective is: a local loss with its own heads.

To add one, write `common/objectives/<name>.py` with a subclass of `Objective` that has a `name`:
recipes find it by that. In a round the trainer calls

    objective.prepare(site)                      # only where the objective `prepares`
    objective.begin_round(site)                  # what the objective may look at, once
    for each epoch:
        objective.begin_epoch(site)
        for each batch:
            seen = objective.represent(batch)    # two views of each image through the networks
            terms = objective.terms(seen)        # name -> weighted scalar; the loss is their sum
            ...step...
            objective.after_step(progress)       # EMA targets, queues; progress in [0, 1] of stage
    objective.end_round(site)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.models.model import Model


class Batch(NamedTuple):
    """One batch: two views (N, C, H, W) of the same images, in [0, 1]; `rows` (N,): which of the
    site's training images they are; `generator`: all that is drawn in a step is drawn from it."""

    a: Tensor
    b: Tensor
    rows: Tensor
    generator: torch.Generator


class Representations(NamedTuple):
    """What one batch looks like in all spaces: the four representations of a pair of views.

    h: encoder outputs (N, d); z: projections (N, p); t: the target network's projections (N, p),
    without gradient, or z detached where an objective has no target network.
    """

    batch: Batch
    h_a: Tensor
    h_b: Tensor
    z_a: Tensor
    z_b: Tensor
    t_a: Tensor
    t_b: Tensor


@dataclass(frozen=True)
class LocalRound:
    """What an objective may look at beside its batches, all of it at the site.

    `embed()`: unit-length embeddings (n, d) of the site's n training images, without augmentation,
    by the networks as they are now, in the stage's embedding space; rows as in `Batch.rows`.
    `views()`: pairs of views of the site's training images, in batches, each image once.
    `centroids`: the global ones (K, d) in that space, None before there are any. `generator`: for
    everything random. `progress`: the share of the stage's rounds that lies behind. `min_count`:
    the fewest images that a count, sum or centroid that leaves the site may stand for. `step`:
    which of the exchanges it is that a synchronous step begins with, from 1.
    """

    embed: Callable[[], Tensor]
    views: Callable[[], Iterator[Batch]]
    centroids: Tensor | None
    generator: torch.Generator
    progress: float = 0.0
    min_count: int = 1
    step: int = 0


class Objective(Model):
    """A local loss with its own heads. Subclasses are one file each."""

    prepares: str = ""
    """The shared module that a round begins with: every site fills it in `prepare`, from the model
    that all have received, and the mean over the sites is what the round is trained with."""

    aggregation: str = ""
    """The one aggregation that this objective goes with; empty: any that needs no objective."""

    def represent(self, batch: Batch) -> Representations:
        """Both views through the networks, in one forward of the encoder.

        Subclasses with a target network override `_targets`, not this.
        """
        h_a, h_b = self.encoder(torch.cat([batch.a, batch.b])).chunk(2)
        z_a, z_b = self.projector(torch.cat([h_a, h_b])).chunk(2)
        t_a, t_b = self._targets(batch.a, batch.b, z_a, z_b)
        return Representations(batch, h_a, h_b, z_a, z_b, t_a, t_b)

    def _targets(self, a: Tensor, b: Tensor, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, Tensor]:
        return z_a.detach(), z_b.detach()

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        """Name -> weighted scalar; what is minimised is their sum."""
        raise NotImplementedError

    def prepare(self, site: LocalRound) -> None:
        """Called without gradient, in evaluation mode: fill the module that `prepares` names."""

    def begin_round(self, site: LocalRound) -> None:
        """Called before a round's first step. The networks are as received, or as merged."""

    def begin_epoch(self, site: LocalRound) -> None:
        """Called before each pass over the site's images."""

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step; `progress` in [0, 1] over the stage."""

    def end_round(self, site: LocalRound) -> None:
        """Called after a round's last step, before what is shared is sent."""

    def received(self) -> dict[str, nn.Module]:
        """Frozen copies that `begin_round` fills and nobody keeps (the model as received)."""
        return {}

    def start_from(self, centroids: Tensor) -> None:
        """Called once, on the server, when a stage begins after one whose clusters were of encoder
        outputs: its global centroids (K, d)."""
