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

import torch
import torch.nn.functional as F
from torch import Tensor

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
        directions, chance = self.settings.directions, seen.batch.chance
        spread = distance_from_uniform(seen.z_a, directions, chance)
        spread = spread + distance_from_uniform(seen.z_b, directions, chance)
        return {**self.inner.terms(seen), "uniformity": self.settings.uniform_weight * spread}


def distance_from_uniform(z: Tensor, directions: int, chance: torch.Generator) -> Tensor:
    """Sliced Wasserstein distance of `z` (N, p), scaled to unit length, from N points drawn
    uniformly from the sphere, over so many random directions."""
    n, width = z.shape
    drawn = torch.randn(n + directions, width, generator=chance, device=chance.device).to(z.device)
    uniform = F.normalize(drawn[:n], dim=1)
    return sliced_wasserstein(F.normalize(z.float(), dim=1), uniform, drawn[n:])


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
    """Mean over `directions` (m, p) of the squared 2-Wasserstein distance between the values of
    `x` (N, p) and of `y` (N, p) along them."""
    if x.shape != y.shape or x.ndim != 2 or directions.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"need two (N, p) tensors and (m, p) directions, got {x.shape}, {y.shape} and "
            f"{directions.shape}"
        )
    with torch.autocast(x.device.type, enabled=False):  # differences of nearly equal values
        along_x, along_y = (points.float() @ directions.T for points in (x, y))
    return (along_x.sort(dim=0).values - along_y.sort(dim=0).values).square().mean()
