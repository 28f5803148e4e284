"""FedU2's flexible uniform regulariser: projections are spread over the sphere at each site.

L = L_1 + w·[SW(z_a, u_a) + SW(z_b, u_b)], L_1 any stage-1 objective (BYOL, SimSiam, SimCLR in the
paper), z projections of unit length, u as many points drawn uniformly from the sphere at each
step, w .01. SW is the sliced Wasserstein distance: mean over random directions θ of the squared
2-Wasserstein distance between the projections θ·z and θ·u, which in one dimension pairs the sorted
values: mean_r (sort(θ·z)_r - sort(θ·u)_r)². Directions are Gaussian and not of unit length, as in
the authors' code, so that SW does not shrink with the width p.
The code takes the distance in the tangent spaces at as many random points as the batch has images
and divides by 6; here it is taken in the space around the sphere, once.
FedU2's server step is `server/aggregation/mgda.py`.
Shared: what `first` shares. Local: what `first` keeps.
Source: Liao et al., "Rethinking the Representation in Federated Unsupervised Learning with Non-IID
Data", CVPR 2024 (arXiv 2403.16398), and the authors' code.
"""

from dataclasses import dataclass

from torch import Tensor

from common.losses.wasserstein import distance_from_uniform
from common.models.encoders import Encoder
from common.objectives.base import Objective, Representations
from common.objectives.wrapper import Wrapper


@dataclass(frozen=True)
class Parameters:
    """`first`: the stage-1 objective inside; `uniform_weight` w; `directions`: how many θ a step
    draws for each view."""

    first: str = "byol"
    uniform_weight: float = 0.01  # the authors' code
    directions: int = 50  # the authors' default for a sliced distance


class Uniform(Wrapper):
    """`inner` with its projections pulled towards the uniform distribution on the sphere."""

    def __init__(
        self, encoder: Encoder, parameters: Parameters, clusters: int, first: Objective
    ) -> None:
        super().__init__(first)
        self.settings = parameters

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        directions, generator = self.settings.directions, seen.batch.generator
        spread = distance_from_uniform(seen.z_a, directions, generator)
        spread = spread + distance_from_uniform(seen.z_b, directions, generator)
        return {**self.inner.terms(seen), "uniformity": self.settings.uniform_weight * spread}
