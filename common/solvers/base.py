"""What a solver is: statistics of all sites' images, and a closed form.

A solver has no loss and is not trained. When its stage begins, the sites are asked for each of its
statistics in turn; the server adds them up, and the closed form sets a part of the model before the
next one is asked for. To add one, write `common/solvers/<name>.py` with a subclass of `Solver` that
has a `name` and says its `statistics`: recipes find it by that.

What a site sends of a statistic, and what is checked of it, is the exchange of its kind
(`common/protocol/exchanges.py`); what is added up is said here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from common.clustering.centroids import Centroids
from common.models.model import Model
from common.protocol.messages import Kind

Sums = Mapping[str, Tensor]
"""What all sites have sent, added up: float64, by the names of the exchange."""


@dataclass(frozen=True)
class Statistic:
    """Sums over all images of some x of each, `width` numbers, and what `solve` sets from them."""

    kind: ClassVar[Kind]

    width: int
    solve: Callable[[Sums], None]


@dataclass(frozen=True)
class Patches(Statistic):
    """`gram` (d + 1, d + 1): Σ x xᵀ of the patches that `layer` sees of an image, as
    `client/statistics/solving.py` lays them out."""

    kind = "patches"

    layer: nn.Conv2d


@dataclass(frozen=True)
class OfOutputs(Statistic):
    """Of x = `points` (N, d) of encoder outputs h (N, d')."""

    points: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Moments(OfOutputs):
    """`gram` (d + 1, d + 1): Σ x xᵀ with a 1 appended to x, over two views, halved; `within`
    (d, d): Σ (x_a - x_b)(x_a - x_b)ᵀ over two views. x is of unit length."""

    kind = "moments"


@dataclass(frozen=True)
class Landmarks(OfOutputs):
    """`points` (m, d): centroids of many small clusters of x, no sum. x is of unit length.
    `at_most`: how many a site with so many images sends; `in_all`: what the server leaves;
    `compares`: whether it is solved from how the sites' differ, too."""

    kind = "landmarks"

    at_most: Callable[[int], int]
    in_all: int
    compares: bool = False


@dataclass(frozen=True)
class LandmarkSums(OfOutputs):
    """`points` (m, d): landmarks that are made in several exchanges, each of sums by centre of x,
    which is of unit length and whole numbers of 2^-14. `wanted`: how many of so many images in all;
    `least`: images behind each."""

    kind = "landmark_sums"

    wanted: Callable[[int], int]
    least: int


@dataclass(frozen=True)
class Trial(OfOutputs):
    """`views` (R·K, K): of R ways to cluster, images by the clusters of two views of each. A way is
    K rows of `scores` (R·K, d), which are sent: x is in the cluster whose row has the largest
    product with it."""

    kind = "trial"

    scores: Callable[[], Tensor]


@dataclass(frozen=True)
class Affinity(OfOutputs):
    """`affinity` (d, d): Σ ½(x_a x_bᵀ + x_b x_aᵀ) over two views. x is not negative, of sum 1."""

    kind = "affinity"


class Solver(Model):
    """A model whose parts have closed forms. Subclasses are one file each."""

    def statistics(self) -> Mapping[str, Statistic]:
        """What is asked of the sites when a stage begins, in that order, by the exchange's kind, or
        "<kind>.1", "<kind>.2", ... where there are several of one."""
        return {}

    @property
    def has_starts(self) -> bool:
        """Whether k-means starts from what was solved, so that no site sends its own clusters."""
        return False

    def starts(self) -> Centroids:
        """Points in the embedding that stand for all images, with their numbers of images, when all
        is solved: what k-means starts from instead of the sites' own clusters."""
        raise NotImplementedError

    def skips(self, asked: str) -> bool:
        """Whether a statistic is not needed any more, by what was solved before it."""
        return False

    def said(self) -> str:
        """What was chosen while it was solved, for who reads the run's record; "" for nothing."""
        return ""


def unit(h: Tensor) -> Tensor:
    """Encoder outputs (N, d) in float32 at unit length."""
    return F.normalize(h.float(), dim=1)


def statistics_of(model: Model) -> Mapping[str, Statistic]:
    """A solver's statistics; none of a model that is trained."""
    return model.statistics() if isinstance(model, Solver) else {}


def width_of(model: Model, asked: str, embedding: str) -> int:
    """Numbers in what an exchange is about: a statistic's x, or an embedding."""
    statistic = statistics_of(model).get(asked)
    return model.width(embedding) if statistic is None else statistic.width
