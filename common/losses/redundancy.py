"""What dimensions of projections have to do with each other: variance, covariance, correlation.

Sources: Barlow Twins: Zbontar et al., ICML 2021 (arXiv 2103.03230), eq. 2; VICReg: Bardes, Ponce
and LeCun, ICLR 2022 (arXiv 2105.04906), eqs. 1 to 4; FedDecorr: Shi et al., ICLR 2023 (arXiv
2210.00226).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_correlation(a: Tensor, b: Tensor) -> Tensor:
    """C (p, p) of `a`, `b` (N, p): C_ij = mean over the batch of a_i·b_j, each dimension shifted to
    mean 0 and scaled to variance 1 (with 1e-5 added to it, as in BatchNorm)."""
    if a.shape != b.shape or a.ndim != 2 or len(a) < 2:
        raise ValueError(
            f"need two (N, p) tensors with N >= 2, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    with torch.autocast(a.device.type, enabled=False):
        return standardised(a).T @ standardised(b) / len(a)


def standardised(z: Tensor) -> Tensor:
    """`z` (N, p) as float32, each dimension with mean 0 and variance 1 over the batch."""
    z = z.float()
    return (z - z.mean(dim=0)) * (z.var(dim=0, correction=0) + 1e-5).rsqrt()


def pooled_cross_correlation(of: Mapping[str, Tensor]) -> Tensor:
    """`cross_correlation` (p, p) from means over a batch: of a and b (p,), of their squares, and
    `cross` of a bᵀ (p, p)."""
    deviations = [
        (of[f"square_{view}"] - of[f"mean_{view}"].square()).clamp_min(0) + 1e-5 for view in "ab"
    ]
    a, b = (each.rsqrt() for each in deviations)
    return (of["cross"] - torch.outer(of["mean_a"], of["mean_b"])) * torch.outer(a, b)


def off_diagonal(matrix: Tensor) -> Tensor:
    """The square `matrix` (p, p) with zeros on its diagonal."""
    return matrix - matrix.diagonal().diag()


def missing_spread(z: Tensor) -> Tensor:
    """v: mean over dimensions of max(0, 1 - standard deviation), for `z` (N, p); from 0 to 1."""
    _check(z)
    return too_narrow(z.float().var(dim=0))


def too_narrow(variance: Tensor) -> Tensor:
    """`missing_spread` from the dimensions' variances (p,)."""
    return F.relu(1 - (variance + 1e-4).sqrt()).mean()


def covariance(z: Tensor) -> Tensor:
    """c: sum of the squared covariances between different dimensions over p, for `z` (N, p)."""
    _check(z)
    n, p = z.shape
    with torch.autocast(z.device.type, enabled=False):
        centred = z.float() - z.float().mean(dim=0)
        return off_diagonal(centred.T @ centred / (n - 1)).square().sum() / p


def packed_moment(z: Tensor) -> Tensor:
    """E[z zᵀ] of the rows of z (N, p), its upper half row by row: (p(p + 1)/2,)."""
    with torch.autocast(z.device.type, enabled=False):
        moment = z.T @ z / len(z)
    return moment[tuple(torch.triu_indices(*moment.shape, device=z.device))]


def packed_covariance(mean: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
    """The variances (p,), and the covariances of different dimensions, each pair once, from E[z]
    (p,) and `packed_moment`."""
    rows, columns = torch.triu_indices(len(mean), len(mean), device=mean.device)
    of_pairs = moment - mean[rows] * mean[columns]
    same = rows == columns
    return of_pairs[same].clamp_min(0), of_pairs[~same]


def _check(z: Tensor) -> None:
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"need a (N, p) tensor with N >= 2, got {tuple(z.shape)}")


def correlation(z: Tensor) -> Tensor:
    """‖K‖²_F / d² of the correlation matrix K of `z` (M, d), M >= 2. A dimension without variance
    is uncorrelated with all, itself included."""
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"need an (M, d) tensor with M >= 2, got {tuple(z.shape)}")
    centred = z.float() - z.float().mean(dim=0)
    unit = F.normalize(centred, dim=0)  # the correlation of two dimensions is their inner product
    with torch.autocast(z.device.type, enabled=False):
        matrix = unit.T @ unit
    return matrix.square().mean()
