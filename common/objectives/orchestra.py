"""Orchestra: sites agree on one set of clusters by clustering each other's clusters.

With z, t projections of the online and the target network and C (G, p) the global prototypes, all
of unit length, and q(x) = softmax(C x / T):
L = ½[-mean_i q(t_a)·log q(z_b) - mean_i q(t_b)·log q(z_a)] + cross-entropy of which of four
quarter turns an image has been given, told by a linear head on its projection, which keeps the
projections from degenerating. C has no gradient: it is as received while a site trains. At the end
of a round the site puts its own centroids into the first rows of `prototypes`, with the others 0:
an equal-size clustering of the target projections of the last images it saw. The aggregation
`orchestra` (`server/aggregation/orchestra.py`) makes the next global prototypes of all sites' rows.
The target follows with a constant momentum, ξ ← mξ + (1-m)θ.

The first round only clusters, as the authors' does: prototypes that are all 0 are not there yet,
and with none the loss has weight 0 (the networks move by weight decay alone, running statistics
settle) and the target is the online network.
Shared: encoder, projector, rotation head, prototypes and, as with the authors, the target, which a
site with a state of its own from many rounds ago would have outdated. Local: nothing.

Where ours differs from the authors' code: the loss takes both views each way (theirs one way); what
is turned is the first view (theirs a third view); a cluster of fewer than `smallest` different
images is not sent (theirs replaces an empty one by the embedding of a single image); and there are
as many local clusters as can have the paper's size, `memory` / `local-clusters`, each.
Source: Lubana et al., "Orchestra: Unsupervised Federated Learning via Globally Consistent
Clustering", ICML 2022 (arXiv 2205.11506), and its code for the numbers.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.losses.assignments import disagreement
from common.losses.sinkhorn import sinkhorn
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import LocalRound, Representations
from common.objectives.target import TargetObjective, move_towards
from common.utils.errors import UserError

TEMPERATURE = 0.1  # T: no parameter, since the server does not know the objective's
EPSILON = 0.04  # of Sinkhorn at the sites and on the server: the authors' scale 25
STEPS, ITERATIONS = 5, 10  # of the local clustering, and of Sinkhorn in each


@dataclass(frozen=True)
class Parameters:
    """`momentum` m; `global_clusters` G and `local_clusters`; `memory`: images that a site
    clusters; `smallest`: different images in the smallest cluster that is sent, no fewer than the
    site's own bound; `hidden` and `width`: the projector's layers. The numbers are the authors'."""

    momentum: float = 0.996
    global_clusters: int = 128
    local_clusters: int = 16
    memory: int = 128
    smallest: int = 5
    hidden: int = 512
    width: int = 512


class Prototypes(nn.Module):
    """`rows` (G, p) without gradient: global prototypes of unit length, or all 0 before there are
    any; in what a site sends, its own centroids and then rows of 0."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(count, width), requires_grad=False)


class Orchestra(TargetObjective):
    """Agreement on global prototypes, and rotation prediction."""

    name = "orchestra"
    aggregation = "orchestra"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        if not 1 <= parameters.local_clusters <= min(parameters.global_clusters, parameters.memory):
            raise UserError(
                "objective 'orchestra': local-clusters must be at least 1, and at most "
                f"global-clusters and memory (got {parameters.local_clusters})"
            )
        self.settings = parameters
        self.encoder = encoder
        self.projector = mlp(
            encoder.feature_dim, parameters.hidden, parameters.width, last_norm=True
        )
        self.rotation = nn.Linear(parameters.width, 4)
        self.prototypes = Prototypes(parameters.global_clusters, parameters.width)
        self.start_target(parameters.momentum)
        self.begun = False  # whether there are global prototypes
        # Target projections (m, p) of the last images, and which images they are (m,).
        self.recent: tuple[Tensor, Tensor] | None = None

    def begin_round(self, site: LocalRound) -> None:
        lengths = self.prototypes.rows.norm(dim=1)
        self.begun, self.recent = bool(lengths.any()), None
        if self.begun and not bool((lengths - 1).abs().max() < 1e-3):
            raise UserError(
                "objective 'orchestra' needs aggregation 'orchestra' and no server optimiser"
            )
        if not self.begun:
            self.target.become(self.encoder, self.projector)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        self._remember(seen.t_a, seen.batch.rows)
        c = self.prototypes.rows
        agreement = 0.5 * (
            disagreement(seen.z_b, seen.t_a, c, TEMPERATURE)
            + disagreement(seen.z_a, seen.t_b, c, TEMPERATURE)
        )
        quarters = torch.randint(
            4,
            (len(seen.batch.a),),
            generator=seen.batch.generator,
            device=seen.batch.generator.device,
        )
        told = self.rotation(self.projector(self.encoder(turn(seen.batch.a, quarters))))
        weight = float(self.begun)
        return {
            "agreement": weight * agreement,
            "rotation": weight * F.cross_entropy(told.float(), quarters),
        }

    def _remember(self, t: Tensor, rows: Tensor) -> None:
        """Keep the last `memory` target projections, and of which images they are."""
        if self.recent is not None:
            t, rows = torch.cat([self.recent[0], t]), torch.cat([self.recent[1], rows])
        self.recent = t[-self.settings.memory :], rows[-self.settings.memory :]

    def after_step(self, progress: float) -> None:
        move_towards(self.target.encoder, self.encoder, self.momentum)
        move_towards(self.target.projector, self.projector, self.momentum)

    @torch.no_grad()
    def end_round(self, site: LocalRound) -> None:
        self.prototypes.rows.zero_()
        if self.recent is not None:
            smallest = max(self.settings.smallest, site.min_count)
            settings = replace(self.settings, smallest=smallest)
            own = local_centroids(*self.recent, settings, site.generator)
            self.prototypes.rows[: len(own)] = own
        self.recent = None

    def shared(self) -> dict[str, nn.Module]:
        return {
            **super().shared(),
            "rotation": self.rotation,
            "target": self.target,
            "prototypes": self.prototypes,
        }

    def local(self) -> dict[str, nn.Module]:
        return {}

    def restart_local(self) -> None:
        """Nothing is local."""


def turn(images: Tensor, quarters: Tensor) -> Tensor:
    """Square `images` (N, C, S, S), each turned by its own of `quarters` (N,) times 90°."""
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"need square images (N, C, S, S), got {tuple(images.shape)}")
    every = torch.stack([images.rot90(k, (2, 3)) for k in range(4)])
    return every[quarters, torch.arange(len(images), device=images.device)]


@torch.no_grad()
def local_centroids(
    points: Tensor, images: Tensor, settings: Parameters, generator: torch.Generator
) -> Tensor:
    """Centroids (k', p) of unit length of `points` (m, p), float32, by equal-size clustering.

    `images` (m,): which image each point shows; one may show up several times, in other views.
    k = min(local clusters, different images // (memory // local clusters)), so that each can have
    the paper's size, and none is kept with fewer than `smallest` different images: k' <= k, and
    may be 0. Each step assigns by Sinkhorn, each point to its largest share, and takes means.
    """
    different, image = torch.unique(images, return_inverse=True)
    size = max(settings.memory // settings.local_clusters, settings.smallest, 1)
    points = F.normalize(points.float(), dim=1)
    k = min(settings.local_clusters, len(different) // size)
    if k < 1:
        return points[:0]
    start = torch.randperm(len(points), generator=generator, device=generator.device)[:k]
    centroids = points[start.to(points.device)]
    for _ in range(STEPS):
        shares = sinkhorn(points @ centroids.T, EPSILON, ITERATIONS)
        member = F.one_hot(shares.argmax(dim=1), k).T.to(points.dtype)
        centroids = F.normalize(member @ points, dim=1)  # 0 where none is a member
    views = F.one_hot(image, len(different)).to(points.dtype)
    members = (member @ views > 0).sum(dim=1)  # different images in each cluster
    return centroids[members >= max(settings.smallest, 1)]
