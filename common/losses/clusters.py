"""Clusters of a batch: what holds one together, what keeps all of them apart and equally large.

Sources: columns of soft assignments: Li et al., "Contrastive Clustering", AAAI 2021 (arXiv
2009.09687), eqs. 4 to 6; pseudo-clusters: Yan et al., "CCFC" (arXiv 2401.06634); prototypes:
Huang et al., "ProPos", TPAMI 2022 (arXiv 2111.11821).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

FLAT = 1e-3  # length below which a column of assignments, less its mean, counts as constant


def correlations(c_a: Tensor, c_b: Tensor) -> Tensor:
    """Pearson's correlation (K,) of each column of C_a and C_b (N, K); about 0 where a column is
    constant."""
    a, b = (F.normalize(c - c.mean(dim=0), dim=0, eps=FLAT) for c in (c_a, c_b))
    return (a * b).sum(dim=0)


def imbalance(assignments: Tensor) -> Tensor:
    """log K + Σ_k P_k log P_k of soft assignments (N, K), P their mean: 0 when clusters are
    equally large, log K when all images are in one."""
    mean = assignments.mean(dim=0)
    entropy: Tensor = -torch.special.xlogy(mean, mean).sum()
    return math.log(mean.numel()) - entropy


def cluster_attraction(p: Tensor, z: Tensor, labels: Tensor, clusters: int) -> Tensor:
    """mean_k mean_{i,j in k} (1 - cos(p_i, sg z_j)) over the clusters k that occur.

    `p`, `z` (M, p), `labels` (M,) in [0, `clusters`). Between 0 and 2. The mean over pairs is the
    inner product of the cluster's mean directions, so no pair is formed.
    """
    if p.shape != z.shape or p.ndim != 2 or labels.shape != p.shape[:1]:
        raise ValueError(
            f"need two (M, p) tensors and (M,) labels, got {tuple(p.shape)}, {tuple(z.shape)} and "
            f"{tuple(labels.shape)}"
        )
    member = (labels == torch.arange(clusters, device=labels.device)[:, None]).float()
    sizes = member.sum(dim=1)
    shares = member / sizes.clamp_min(1)[:, None]
    with torch.autocast(p.device.type, enabled=False):
        mean_p = shares @ F.normalize(p.float(), dim=1)
        mean_z = shares @ F.normalize(z.detach().float(), dim=1)
    cosines = (mean_p * mean_z).sum(dim=1)  # 0 where a cluster has no member
    return 1 - cosines.sum() / (sizes > 0).sum()


def prototype_scattering(
    online: Tensor, target: Tensor, labels: Tensor, clusters: int, temperature: float
) -> Tensor:
    """PSL of `online` and `target` (N, p), any length, whose rows have `labels` (N,) in
    0..clusters-1. A batch of a single cluster has nothing to scatter: 0."""
    if online.shape != target.shape or online.ndim != 2 or labels.shape != online.shape[:1]:
        raise ValueError(
            f"need two (N, p) tensors and (N,) labels, got {online.shape}, {target.shape} and "
            f"{labels.shape}"
        )
    member = labels == torch.arange(clusters, device=labels.device)[:, None]
    present = member.any(dim=1)
    diagonal = torch.eye(clusters, dtype=torch.bool, device=labels.device)
    with torch.autocast(online.device.type, enabled=False):
        own, other = _centres(online, member), _centres(target.detach(), member)
        logits = own @ own.T / temperature
    # An absent cluster keeps a finite logit with itself, so that its unused row is no NaN.
    logits = logits.masked_fill(~present & ~diagonal, -torch.inf)
    positives = (own * other).sum(dim=1) / temperature
    losses = torch.where(diagonal, positives[:, None], logits).logsumexp(dim=1) - positives
    return (losses * present).sum() / present.sum()


def _centres(points: Tensor, member: Tensor) -> Tensor:
    """Unit-length means (K, p) of unit-length `points` (N, p) by `member` (K, N); 0 where none."""
    return F.normalize(member.float() @ F.normalize(points.float(), dim=1), dim=1)
