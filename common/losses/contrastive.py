"""Contrastive cross-entropies on cosines: the maths that several objectives share.

Sources: NT-Xent: Chen et al., ICML 2020, eq. 1. InfoNCE against target keys and a queue of them: He
et al., CVPR 2020, eq. 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """NT-Xent over 2N rows: row i of `a` and row i of `b` are a positive pair.

    ℓ(i, j) = -log exp(s_ij/τ) / Σ_{k≠i} exp(s_ik/τ), with s the cosine; the mean over all 2N
    anchors. `a`, `b`: (N, p), any length. A row's similarity with itself is masked with -inf.
    """
    _check(a, b)
    rows = F.normalize(torch.cat([a, b]).float(), dim=1)
    logits = product(rows, rows) / temperature
    logits.fill_diagonal_(-torch.inf)
    n = len(a)
    positives = torch.arange(2 * n, device=a.device).roll(n)
    return F.cross_entropy(logits, positives)


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """In-batch InfoNCE: -mean_i log exp(cos(q_i, k_i)/τ) / Σ_j exp(cos(q_i, k_j)/τ).

    `queries`, `keys`: (N, p), any length; row i of both is a positive pair.
    """
    _check(queries, keys)
    cosines = product(F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1))
    return F.cross_entropy(cosines / temperature, torch.arange(len(keys), device=keys.device))


def symmetric_info_nce(
    z_a: Tensor, z_b: Tensor, t_a: Tensor, t_b: Tensor, temperature: float
) -> Tensor:
    """½[NCE(z_a; t_b) + NCE(z_b; t_a)]: each view's projection against the other's target."""
    return 0.5 * (info_nce(z_a, t_b, temperature) + info_nce(z_b, t_a, temperature))


def product(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ (N, M) in the precision of a: autocast would round it to bfloat16, whose steps near 1
    are as large as the differences of cosines that a temperature of .1 tells apart."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 2 or len(a) < 2:
        raise ValueError(f"need two (N, p) tensors with N >= 2, got {a.shape} and {b.shape}")


def queue_info_nce(
    queries: Tensor, keys: Tensor, queue: Tensor, negative: Tensor, temperature: float
) -> Tensor:
    """mean_i -log exp(cos(q_i, k_i)/τ) / (exp(cos(q_i, k_i)/τ) + Σ_j exp(cos(q_i, queue_j)/τ)).

    `queries`, `keys`: (N, p), any length; `queue` (Q, p); `negative` (N, Q): whether j is a
    negative of i. Without negatives the loss is 0. `ValueError` for shapes that do not fit.
    """
    n, size = len(queries), len(queue)
    if queries.shape != keys.shape or negative.shape != (n, size) or queries.ndim != 2:
        raise ValueError(
            f"need (N, p) queries and keys and (N, Q) negatives, got {tuple(queries.shape)}, "
            f"{tuple(keys.shape)} and {tuple(negative.shape)} for a queue {tuple(queue.shape)}"
        )
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys, queue = (F.normalize(x.float(), dim=1) for x in (queries, keys, queue))
        positives = (queries * keys).sum(dim=1, keepdim=True)
        negatives = (queries @ queue.T).masked_fill(~negative, -torch.inf)
    logits = torch.cat([positives, negatives], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(n, dtype=torch.long, device=logits.device))
