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

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.config.options import Scalar, kebab
from common.models.encoders import Encoder
from common.utils.errors import UserError, unknown


class Batch(NamedTuple):
    """One batch: two views (N, C, H, W) of the same images, in [0, 1]; `rows` (N,): which of the
    site's training images they are; `chance`: all that is drawn in a step is drawn from it."""

    a: Tensor
    b: Tensor
    rows: Tensor
    chance: torch.Generator


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
    `centroids`: the global ones (K, d) in that space, None before there are any. `chance`: for
    everything random. `progress`: the share of the stage's rounds that lies behind. `min_count`:
    the fewest images that a count, sum or centroid that leaves the site may stand for.
    """

    embed: Callable[[], Tensor]
    views: Callable[[], Iterator[Batch]]
    centroids: Tensor | None
    chance: torch.Generator
    progress: float = 0.0
    min_count: int = 1


@dataclass(frozen=True)
class NoParameters:
    """An objective without parameters of its own."""


class Objective(nn.Module):
    """A local loss with its own heads. Subclasses are one file each."""

    name: ClassVar[str]
    """What a stage's `objective` calls it; a class without one is for others to build on."""

    parameters_type: ClassVar[type[Any]] = NoParameters
    """A frozen dataclass of numbers with defaults: the objective's own parameters."""

    trains: bool = True
    """Whether there is a loss; a stage of an objective without one has rounds = 0."""

    solves: tuple[str, ...] = ()
    """The exchanges that a stage begins with, each of which `solve` is called after: of a `Kind`,
    and where there are several of one, "<kind>.1", "<kind>.2", ..."""

    prepares: str = ""
    """The shared module that a round begins with: every site fills it in `prepare`, from the model
    that all have received, and the mean over the sites is what the round is trained with."""

    aggregation: str = ""
    """The one aggregation that this objective goes with; empty: any that needs no objective."""

    encoder: Encoder
    projector: nn.Module

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

    def shared(self) -> dict[str, nn.Module]:
        """The modules that the federation averages, by name."""
        return {"encoder": self.encoder, "projector": self.projector}

    def local(self) -> dict[str, nn.Module]:
        """The modules that stay at the site between rounds (targets, queues), by name."""
        return {}

    def received(self) -> dict[str, nn.Module]:
        """Frozen copies that `begin_round` fills and nobody keeps (the model as received)."""
        return {}

    def solve(self, asked: str, sums: Mapping[str, Tensor]) -> None:
        """Called on the server when a stage begins, once for each of `solves`, in that order: set
        what has a closed form from what all sites sent, float64, of their x = `solving_points`.
        "moments": `gram` (d + 1, d + 1), Σ x xᵀ with a 1 appended to x, and `within` (d, d),
        Σ (x_a - x_b)(x_a - x_b)ᵀ over two views; "landmarks": `points` (m, d), centroids of x, at
        most `landmarks_of` each site's images from it; "affinity": `affinity` (d, d),
        Σ ½(x_a x_bᵀ + x_b x_aᵀ) over two views;
        "patches": `gram` (d + 1, d + 1), of the patches that `layer` sees (`components.py`)."""

    def solving_points(self, asked: str, h: Tensor) -> Tensor:
        """What a site sums for `solve`, (N, d): of encoder outputs h (N, d'), at unit length for
        "moments" and "landmarks", not negative and with a sum of 1 for "affinity"."""
        return F.normalize(h.float(), dim=1)

    def solving_width(self, asked: str) -> int:
        """Numbers in one of `solving_points`."""
        return self.encoder.feature_dim

    def width_for(self, asked: str, embedding: str) -> int:
        """Numbers in what an exchange is about: `solving_width` or `width`."""
        return self.solving_width(asked) if asked in self.solves else self.width(embedding)

    def layer(self, asked: str) -> nn.Conv2d:
        """The encoder's layer that an exchange of "patches" is about."""
        raise NotImplementedError

    def landmarks_of(self, images: int) -> int:
        """How many centroids a site with so many images sends for "landmarks", at most."""
        return 0

    def start_from(self, centroids: Tensor) -> None:
        """Called once, on the server, when a stage begins after one whose clusters were of encoder
        outputs: its global centroids (K, d)."""

    def restart_local(self) -> None:
        """Reset what is local from what is shared: at a site's first round in a run."""

    def width(self, embedding: str) -> int:
        """Numbers in one image's embedding: "encoder" output or "projector" output."""
        if embedding == "encoder":
            return self.encoder.feature_dim
        linear = [m for m in self.projector.modules() if isinstance(m, nn.Linear)]
        return linear[-1].out_features

    def assignments(self, h: Tensor) -> Tensor | None:
        """Soft cluster assignments (N, K) of encoder outputs, or None without a cluster head."""
        return None


class Around(Objective):
    """An objective around another one, `inner`: everything is `inner`'s but what is overridden."""

    def __init__(self, inner: Objective) -> None:
        super().__init__()
        self.inner = inner
        self.trains, self.solves, self.prepares = inner.trains, inner.solves, inner.prepares
        self.aggregation = inner.aggregation
        self.encoder = inner.encoder
        self.projector = inner.projector

    def represent(self, batch: Batch) -> Representations:
        return self.inner.represent(batch)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        return self.inner.terms(seen)

    def prepare(self, site: LocalRound) -> None:
        self.inner.prepare(site)

    def begin_round(self, site: LocalRound) -> None:
        self.inner.begin_round(site)

    def begin_epoch(self, site: LocalRound) -> None:
        self.inner.begin_epoch(site)

    def after_step(self, progress: float) -> None:
        self.inner.after_step(progress)

    def end_round(self, site: LocalRound) -> None:
        self.inner.end_round(site)

    def shared(self) -> dict[str, nn.Module]:
        return self.inner.shared()

    def local(self) -> dict[str, nn.Module]:
        return self.inner.local()

    def received(self) -> dict[str, nn.Module]:
        return self.inner.received()

    def solve(self, asked: str, sums: Mapping[str, Tensor]) -> None:
        self.inner.solve(asked, sums)

    def solving_points(self, asked: str, h: Tensor) -> Tensor:
        return self.inner.solving_points(asked, h)

    def solving_width(self, asked: str) -> int:
        return self.inner.solving_width(asked)

    def layer(self, asked: str) -> nn.Conv2d:
        return self.inner.layer(asked)

    def landmarks_of(self, images: int) -> int:
        return self.inner.landmarks_of(images)

    def start_from(self, centroids: Tensor) -> None:
        self.inner.start_from(centroids)

    def restart_local(self) -> None:
        self.inner.restart_local()

    def width(self, embedding: str) -> int:
        return self.inner.width(embedding)

    def assignments(self, h: Tensor) -> Tensor | None:
        return self.inner.assignments(h)


def read_parameters(kind: type[Any], given: Mapping[str, Scalar], objective: str) -> Any:
    """Fill the dataclass `kind` from kebab-case names; `UserError` for an unknown name or type."""
    known = {kebab(f.name): f for f in fields(kind)}
    values: dict[str, Scalar] = {}
    for name, value in given.items():
        if name not in known:
            raise unknown(f"parameter of objective {objective!r}", name, known)
        wanted: type[Any] = type(known[name].default)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, wanted) and not (wanted is float and number):
            raise UserError(f"parameters: {name} must be {wanted.__name__} (got {value!r})")
        values[known[name].name] = wanted(value)
    return kind(**values)


def mlp(*widths: int, last_norm: bool = False) -> nn.Sequential:
    """Linear layers with BatchNorm and ReLU between them; `last_norm`: BatchNorm without affine
    parameters after the last (as SimCLR's and SimSiam's projectors have)."""
    layers: list[nn.Module] = []
    for index, (inner, outer) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        layers.append(nn.Linear(inner, outer, bias=last and not last_norm))
        if not last:
            layers += [nn.BatchNorm1d(outer), nn.ReLU(inplace=True)]
        elif last_norm:
            layers.append(nn.BatchNorm1d(outer, affine=False))
    return nn.Sequential(*layers)
