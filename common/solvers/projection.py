"""The shared-moment projection: a linear projector solved over all sites from sums.

A site that holds one class has only same-class negatives, so a projector that it trains learns to
throw the class away; the encoder's features suffer much less. So the sites do not train a projector
here. With the encoder frozen, each sends sums over two views a, b of its images, h of unit length;
the server adds them up to
    S_t = covariance of h over all sites,        S_w = ½·E[(h_a - h_b)(h_a - h_b)ᵀ],
and takes the `width` largest solutions of the generalised eigenproblem
    S_t v = λ (S_w + ε·tr(S_w)/d·I) v:
directions in which images differ and two views of one image do not. That is discriminant analysis
with every image its own class (Fisher, 1936; Rao, 1948), or a linear contrastive projector in
closed form. z = Wᵀ(h - μ) with Wᵀ(S_w + …)W = I, so that direction i has variance λ_i: what is
mostly noise counts little, and `width` hardly matters. Sums do not depend on how the images are
spread over the sites: given the encoder, W is the centralised one, whatever the skew.
Shared: encoder and the solved projector.
Source: ours; `docs/researcher/covey.md` has the measurements.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.models.encoders import Encoder
from common.models.heads import UnitLinear
from common.solvers.base import Moments, Solver, Statistic, Sums, unit


@dataclass(frozen=True)
class Parameters:
    """`width`: directions kept; `ridge` ε: relative to the mean variance between views."""

    width: int = 64
    ridge: float = 0.01


class Projection(Solver):
    """A frozen encoder and the projector that moments over all sites give."""

    name = "projection"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.ridge = parameters.ridge
        self.encoder = encoder
        width = min(parameters.width, encoder.feature_dim)
        self.projection = UnitLinear(encoder.feature_dim, width)
        self.projector: nn.Module = self.projection

    def statistics(self) -> Mapping[str, Statistic]:
        return {"moments": Moments(self.encoder.feature_dim, self.solve_projector, unit)}

    def solve_projector(self, sums: Sums) -> None:
        """Set W and μ from the `gram` and `within` of all sites."""
        linear = self.projection.linear
        weights, mean = solve_projection(
            sums["gram"], sums["within"], linear.out_features, self.ridge
        )
        with torch.no_grad():
            linear.weight.copy_(weights.T)
            linear.bias.copy_(-(mean @ weights))


def solve_projection(
    gram: Tensor, within: Tensor, width: int, ridge: float
) -> tuple[Tensor, Tensor]:
    """W (d, width) and μ (d,), float64, from sums over all sites.

    `gram` (d + 1, d + 1): Σ h hᵀ with a 1 appended to h; `within` (d, d): Σ (h_a - h_b)(h_a - h_b)ᵀ
    over pairs of views. Each column's largest entry is positive, so that the signs are fixed.
    Where no two views differ every direction has as much noise, which gives principal components.
    `ValueError` for moments without an image.
    """
    d = len(within)
    if gram.shape != (d + 1, d + 1) or within.shape != (d, d):
        raise ValueError(f"moments {tuple(gram.shape)} and {tuple(within.shape)} do not fit")
    images = gram[-1, -1]
    if not images > 0:
        raise ValueError("moments of no images")
    mean = gram[-1, :-1] / images
    total = gram[:-1, :-1] / images - torch.outer(mean, mean)
    between_views = within / (2 * images)
    noise = between_views.diagonal().mean()
    if not noise >= 0:
        raise ValueError("the views' differences are no sum of squares")
    if noise == 0:
        between_views, noise = torch.eye(d, dtype=gram.dtype), torch.ones_like(noise)
    # With M = S_w + ε… = L Lᵀ, S_t v = λ M v becomes the symmetric problem of L⁻¹ S_t L⁻ᵀ.
    lower = torch.linalg.cholesky(between_views + ridge * noise * torch.eye(d, dtype=gram.dtype))
    half = torch.linalg.solve_triangular(lower, total, upper=False)
    whitened = torch.linalg.solve_triangular(lower, half.T, upper=False)
    _, vectors = torch.linalg.eigh((whitened + whitened.T) / 2)
    chosen = vectors.flip(1)[:, :width]
    weights = torch.linalg.solve_triangular(lower.T, chosen, upper=True)
    return with_fixed_signs(weights), mean


def with_fixed_signs(columns: Tensor) -> Tensor:
    """Eigenvectors have either sign: each of `columns` (d, p) with its largest entry positive."""
    signed: Tensor = columns * columns.gather(0, columns.abs().argmax(dim=0)[None]).sign()
    return signed
