"""The shared-moment projection, then spectral clustering of all sites' images, from sums.

k-means wants round clusters; classes are bent. Spectral clustering follows them along the graph of
who is near whom, which no site has. But the graph through M landmarks c_j that all images share
needs sums only. With z an image's projection at unit length, a (M,) its weights over the landmarks,
    a_j = exp(z·c_j/τ) / Σ exp(z·c/τ) over the `nearest` landmarks, 0 elsewhere,
two landmarks are as near as there are images of which one view has weight on the one and another
view on the other. A random walk over that graph of landmarks makes them diffuse, and an image's
coordinates are the mean of its landmarks':
    S = Σ ½(a_a a_bᵀ + a_b a_aᵀ) over all sites,  Δ = diag(S·1),  Δ^-½ S Δ^-½ v = λ v,
    u = λ^t vᵀ Δ^-½ a  (time t; with λ^-½, and views that are the image itself, u would be the
    eigenvectors of the N × N matrix A Δ⁻¹ Aᵀ between images).
Where spectral clustering takes as many eigenvectors as clusters, all alike, here each counts by its
eigenvalue, so that more of them are welcome; k-means goes on from u at unit length.
Like the projection it does not depend on how the images are spread, but for the landmarks: each
site sends its own clusters' centroids, with about `images` images each, and where there are more
than `landmarks` of them, the server clusters them. A site of one class sends landmarks that stand
for no other class.
Shared: encoder, the solved projector.
Sources: spectral clustering by landmarks: Liu, He and Chang, ICML 2010 (anchor graphs); Chen and
Cai, AAAI 2011 (LSC), whose numbers of landmarks and of nearest ones these are. Diffusion maps:
Coifman and Lafon, Appl. Comput. Harmon. Anal. 21, 2006. Edges by two views: HaoChen et al., NeurIPS
2021 (the augmentation graph). From the sites' sums: ours;
`docs/researcher/covey.md` has the measurements.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.clustering.centroids import Centroids
from common.clustering.centroids import unit as unit_rows
from common.models.encoders import Encoder
from common.models.heads import output_width
from common.models.whole import STEP, WholeLinear, WholeUnitLinear, cut, product, whole
from common.solvers import projection
from common.solvers.base import Affinity, Landmarks, LandmarkSums, Statistic, Sums, unit
from common.solvers.projection import Projection, with_fixed_signs
from common.utils.errors import UserError, unknown

LONGEST = 100  # a diffusion's time: by then nothing but its first dimension is left
SITES, SUMS = "sites", "sums"  # where landmarks are from
FEWEST = 5  # images behind a landmark that is from sums
OPEN, FEWER = 0, 1000  # landmarks: as many as a run settles, which are at least these
UNUSED = -1e4  # the score of a landmark that is not there: its weight is 0


@dataclass(frozen=True)
class Parameters(projection.Parameters):
    """`landmarks` M: at most (0: open, a run settles it); `landmarks_from`: "sites", their own
    small clusters, or "sums" over all sites, so that nothing in the run depends on how images are
    spread where sites leave nothing out; `images`: behind each landmark, about; `nearest`:
    landmarks that an image has weights on; `temperature` τ; `dimensions` of u: at least one for
    each cluster; `time` t. `width`, `ridge`: the projection's."""

    landmarks: int = FEWER
    landmarks_from: str = SITES
    images: int = 10
    nearest: int = 5
    temperature: float = 0.1
    dimensions: int = 50
    time: float = 1.0


class Weights(nn.Module):
    """z (N, p) -> weights (N, M) over the `nearest` of M landmarks; rows add up to 1."""

    def __init__(self, width: int, landmarks: int, nearest: int) -> None:
        super().__init__()
        self.scores = nn.Linear(width, landmarks)
        self.nearest = min(nearest, landmarks)

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):  # differences of scores need float32
            scores: Tensor = self.scores(F.normalize(z.float(), dim=1))
            least = scores.topk(self.nearest, dim=1).values[:, -1:]
            return scores.masked_fill(scores < least, -torch.inf).softmax(dim=1)

    @property
    def used(self) -> Tensor:
        """Which of the M landmarks are there: (M,) bool."""
        return self.scores.bias == 0

    @torch.no_grad()
    def set(self, points: Tensor, temperature: float) -> None:
        """Score by cos/τ with `points` (m, p) of unit length, m ≤ M; the rest are not there."""
        self.scores.weight.zero_()
        self.scores.bias.fill_(UNUSED)
        self.scores.weight[: len(points)] = points / temperature
        self.scores.bias[: len(points)] = 0


class WholeWeights(Weights):
    """The same bits of a row in any batch: multiples of 2^-14, in float32."""

    def forward(self, z: Tensor) -> Tensor:
        """See `Weights`."""
        scores = product(whole(z), self.scores.weight) + self.scores.bias
        least = scores.topk(self.nearest, dim=1).values[:, -1:]
        weights = scores.masked_fill(scores < least, -torch.inf).softmax(dim=1)
        return ((weights / STEP).round() * STEP).float()


class LandmarkSpectral(Projection):
    """A frozen encoder, the projection, and the spectral embedding by shared landmarks."""

    name = "landmark-spectral"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__(encoder, parameters, clusters)
        parameters = replace(parameters, landmarks=parameters.landmarks or FEWER)
        if parameters.landmarks < clusters:
            raise UserError(f"{parameters.landmarks} landmarks are too few for {clusters} clusters")
        if not 0 <= parameters.time <= LONGEST:
            raise UserError(f"time = {parameters.time:g} must lie between 0 and {LONGEST}")
        if parameters.landmarks_from not in (SITES, SUMS):
            raise unknown("source of landmarks", parameters.landmarks_from, (SITES, SUMS))
        self.settings = parameters
        self._clusters = clusters
        self._mass = torch.zeros(0)  # of the landmarks: the images that have weight on each
        width, landmarks = output_width(self.projection), parameters.landmarks
        dimensions = min(max(parameters.dimensions, clusters, 1), landmarks)
        if self.has_starts:
            self.projection = WholeUnitLinear(encoder.feature_dim, width)
            self.weights: Weights = WholeWeights(width, landmarks, parameters.nearest)
            self.spectrum: nn.Linear = WholeLinear(landmarks, dimensions, bias=False)
        else:
            self.weights = Weights(width, landmarks, parameters.nearest)
            self.spectrum = nn.Linear(landmarks, dimensions, bias=False)
        self.projector = nn.Sequential(self.projection, self.weights, self.spectrum)

    def statistics(self) -> Mapping[str, Statistic]:
        width, most = output_width(self.projection), self.settings.landmarks
        landmarks: Statistic
        if self.has_starts:
            wanted, least = self._landmarks_of_all, max(FEWEST, self.settings.images // 2)
            landmarks = LandmarkSums(width, self.set_landmarks, self._projected, wanted, least)
        else:
            at_most = self._landmarks_of
            landmarks = Landmarks(width, self.set_landmarks, self._projected, at_most, most)
        affinity = Affinity(most, self.solve_coordinates, self._weighted)
        return {**super().statistics(), landmarks.kind: landmarks, affinity.kind: affinity}

    @property
    def has_starts(self) -> bool:
        return self.settings.landmarks_from == SUMS

    @torch.no_grad()
    def starts(self) -> Centroids:
        """The landmarks as they are embedded, with the images that have weight on each."""
        there = self.weights.scores.weight[self.weights.used]
        found = self.points(self.spectrum(self.weights(there)))
        counts = self._mass[: len(found)].round().long()
        return Centroids(unit_rows(found.numpy()), counts.numpy())

    def points(self, outputs: Tensor) -> Tensor:
        return whole(outputs).float() if self.has_starts else super().points(outputs)

    def solve_projector(self, sums: Sums) -> None:
        super().solve_projector(sums)
        self._settle(self.projection.linear)

    def set_landmarks(self, sums: Sums) -> None:
        """Take over the landmarks `points` (m, p)."""
        self.weights.set(sums["points"].float(), self.settings.temperature)
        self._settle(self.weights.scores)

    def solve_coordinates(self, sums: Sums) -> None:
        """Set u's linear map from the `affinity` (M, M) of all sites."""
        self._mass = sums["affinity"].sum(dim=1)
        solved = solve_spectrum(sums["affinity"], self.spectrum.out_features, self.settings.time)
        with torch.no_grad():
            self.spectrum.weight.copy_(solved.T)
        self._settle(self.spectrum)

    @torch.no_grad()
    def _settle(self, linear: nn.Linear) -> None:
        """Leave the layer with weights whose products are exact, where landmarks are from sums."""
        if self.has_starts:
            linear.weight.copy_(cut(linear.weight))

    def _projected(self, h: Tensor) -> Tensor:
        z = self.projection(h)
        return whole(z).float() if self.has_starts else unit(z)

    def _weighted(self, h: Tensor) -> Tensor:
        weights: Tensor = self.weights(self.projection(h))
        return weights.double() if self.has_starts else weights  # their products are exact, too

    def _landmarks_of(self, images: int) -> int:
        return max(1, min(self.settings.landmarks, images // self.settings.images))

    def _landmarks_of_all(self, images: int) -> int:
        return max(self._clusters, self._landmarks_of(images))


def solve_spectrum(affinity: Tensor, width: int, time: float) -> Tensor:
    """Δ^-½ V Λ^t (M, width), float64, from `affinity` (M, M) = Σ ½(a_a a_bᵀ + a_b a_aᵀ), times
    √N, so that u does not shrink with more images. Landmarks that no image is near get 0, and so do
    dimensions whose eigenvalue is not positive; each column's largest entry is positive.
    `UserError` for sums of no images."""
    if affinity.ndim != 2 or affinity.shape[0] != affinity.shape[1]:
        raise ValueError(f"affinities {tuple(affinity.shape)}")
    degrees = affinity.sum(dim=1)
    total = degrees.sum()
    if not total > 0:
        raise UserError("no site has enough images near one landmark")
    scale = torch.where(degrees > 1e-9 * total, degrees.clamp_min(1e-300).rsqrt(), 0)
    normalised = scale[:, None] * (affinity + affinity.T) / 2 * scale
    values, vectors = torch.linalg.eigh(normalised)
    values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
    lengths = torch.where(values > 1e-6, values.clamp_min(1e-6) ** time, 0)
    return with_fixed_signs(scale[:, None] * vectors * total.sqrt() * lengths)
