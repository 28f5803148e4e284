"""For features of any kind: the projection, its ridge and the landmarks are chosen without labels.

What `landmark-spectral` solves with one ridge is solved here with several, and without views (the
principal directions of h itself: as good as no projection). Each of these ways is tried:
- the sites send landmarks of h, centres of many small clusters of the encoder's outputs;
- the server projects them by each way's W and clusters them into K; a cluster's centre c in the
  projection is a linear score of h, (W c)ᵀ(h - μ), so that a way costs K rows of d numbers;
- the sites count in which clusters two views of each image are, other views than W was solved from.
The way with the largest **agreement** (normalised mutual information of the two) is taken.
On features of pretrained networks agreement orders ridges nearly as labels do
(docs/researcher/pretrained.md has the measurements). Between a projection and what landmarks make
of it agreement cannot choose. Landmarks help where sites differ, since then they say who holds an
image, and cost a little where sites are alike. So they are taken where a landmark's nearest ones
are of its own site more often than by chance.
Shared: encoder and the solved projector. Source: ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from common.clustering.kmeans import kmeans
from common.metrics import nmi
from common.models.encoders import Encoder
from common.models.heads import UnitLinear
from common.solvers.base import Affinity, Landmarks, Statistic, Sums, Trial, unit
from common.solvers.landmark_spectral import (
    SITES,
    LandmarkSpectral,
    Parameters,
    Weights,
    solve_spectrum,
)
from common.solvers.projection import solve_projection, with_fixed_signs
from common.utils.errors import UserError
from common.utils.seeds import generator

RIDGES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
UNUSED = -1e4  # the score of a cluster that is not there
RESTARTS = 16


@dataclass(frozen=True)
class Way:
    """A projection z = Wᵀ(h - μ): `weights` W (d, p), `mean` μ (d,), and what it is called."""

    name: str
    weights: Tensor
    mean: Tensor

    def __call__(self, h: Tensor) -> Tensor:
        return (h.double() - self.mean) @ self.weights


class Closing(nn.Module):
    """h (N, d) -> (N, p): the projection, or, where `through` is 1, the spectral embedding by
    landmarks; p is the smaller one's width or filled up with 0."""

    def __init__(self, projection: UnitLinear, weights: Weights, spectrum: nn.Linear) -> None:
        super().__init__()
        self.projection, self.weights, self.spectrum = projection, weights, spectrum
        self.register_buffer("through", torch.zeros(1))

    def forward(self, h: Tensor) -> Tensor:
        """See above."""
        z = self.projection(h)
        width = self.spectrum.out_features
        alone = F.pad(z, (0, max(0, width - z.shape[1])))[:, :width]
        through = self.get_buffer("through")
        mixed: Tensor = through * self.spectrum(self.weights(z)) + (1 - through) * alone
        return mixed


class ChosenSpectral(LandmarkSpectral):
    """A frozen encoder, and the closing that suits its features."""

    name = "chosen-spectral"

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        if parameters.landmarks_from != SITES:
            raise UserError(f"{self.name} compares landmarks of sites: landmarks-from is {SITES}")
        super().__init__(encoder, parameters, clusters)
        self.projector = Closing(self.projection, self.weights, self.spectrum)
        self._ways: list[Way] = []
        self._landmarks = torch.zeros(0)
        self._alike = True
        self._said = ""

    def statistics(self) -> Mapping[str, Statistic]:
        d, most = self.encoder.feature_dim, self.settings.landmarks
        return {
            **{"moments": super().statistics()["moments"]},
            "landmarks": Landmarks(d, self.set_landmarks, unit, self._landmarks_of, most, True),
            "trial": Trial(d + 1, self.choose, _with_one, self.scores),
            "affinity": Affinity(most, self.solve_coordinates, self._weighted),
        }

    def skips(self, asked: str) -> bool:
        return asked == "affinity" and self._alike

    def said(self) -> str:
        return self._said

    def solve_projector(self, sums: Sums) -> None:
        """Solve all ways from the `gram` and `within` of all sites."""
        width = self.projection.linear.out_features
        gram, within = sums["gram"], sums["within"]
        solved = ((r, solve_projection(gram, within, width, r)) for r in RIDGES)
        self._ways = [Way(f"ridge {ridge:g}", *found) for ridge, found in solved]
        _, vectors = torch.linalg.eigh(gram[:-1, :-1])
        own = with_fixed_signs(vectors.flip(1)[:, :width])
        self._ways.append(Way("no projection", own, torch.zeros(len(own), dtype=own.dtype)))

    def set_landmarks(self, sums: Sums) -> None:
        """Take over the landmarks `points` (m, d), and whether sites are alike: whether those near
        each other are of one site (`own`) as often as by `chance`."""
        self._landmarks = sums["points"]
        own, chance = (float(sums[name].item()) for name in ("own", "chance"))
        self._alike = own <= chance
        self._said = f"{own:.0%} of the landmarks near one are of its site, {chance:.0%} by chance"

    def scores(self) -> Tensor:
        """K rows (d + 1) for each way: what [h, 1] is multiplied with."""
        return torch.cat([self._scores_of(way) for way in self._ways])

    def choose(self, sums: Sums) -> None:
        """Take the way whose table in `views` (R·K, K) has the most agreement."""
        tables, ways = sums["views"].numpy().astype(np.int64), len(self._ways)
        if not tables.any():
            raise UserError("no site has counted any image")
        found = [nmi(table) if _tells_apart(table) else 0.0 for table in np.split(tables, ways)]
        best = int(np.argmax(found))
        way, linear = self._ways[best], self.projection.linear
        with torch.no_grad():
            linear.weight.copy_(way.weights.T)
            linear.bias.copy_(-(way.mean @ way.weights))
            self.weights.set(F.normalize(way(self._landmarks), dim=1).float(), self._temperature)
            self.projector.get_buffer("through").fill_(0.0 if self._alike else 1.0)
        each = ", ".join(f"{w.name} {a:.3f}" for w, a in zip(self._ways, found, strict=True))
        with_landmarks = "no landmarks" if self._alike else "landmarks"
        self._said = f"chosen without labels: {way.name}, {with_landmarks} ({each}; {self._said})"

    @property
    def _temperature(self) -> float:
        return self.settings.temperature

    def solve_coordinates(self, sums: Sums) -> None:
        """Set the spectral embedding from the `affinity` (M, M) of all sites."""
        solved = solve_spectrum(sums["affinity"], self.spectrum.out_features, self.settings.time)
        with torch.no_grad():
            self.spectrum.weight.copy_(solved.T)

    def _scores_of(self, way: Way) -> Tensor:
        """The landmarks' clusters in one way, as scores of [h, 1]."""
        z = F.normalize(way(self._landmarks), dim=1).float()
        chance = generator("cpu", 0, "trial", way.name)
        found = kmeans(z, self._clusters, restarts=RESTARTS, generator=chance, spherical=True)
        rows = way.weights @ F.normalize(found.centroids.double(), dim=1).T
        scores = torch.cat([rows, -(way.mean @ rows)[None]]).T
        missing = torch.zeros(self._clusters - len(scores), scores.shape[1], dtype=scores.dtype)
        missing[:, -1] = UNUSED
        return torch.cat([scores, missing])


def _with_one(h: Tensor) -> Tensor:
    return F.pad(unit(h), (0, 1), value=1.0)


def _tells_apart(table: NDArray[np.int64]) -> bool:
    """Whether images lie in more than one cluster, by either view."""
    return bool(min(np.count_nonzero(table.sum(axis)) for axis in (0, 1)) > 1)
