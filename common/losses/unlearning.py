"""Losses on images that are to be forgotten: the maths that methods of unlearning are made of.

Sources: contrastive unlearning: Lee et al., IJCAI 2025 (doi 10.24963/ijcai.2025/830). Alignment
calibration: Wang et al., TMLR 2025 (arXiv 2406.03603).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.contrastive import nt_xent, product


def away_from_own(
    forgotten: Tensor,
    retained: Tensor,
    own: Tensor,
    others: Tensor,
    temperature: float,
) -> Tensor:
    """Away from retained samples of one's own class, towards those of the others.

    mean_i -(1/|N_i|) Σ_{a ∈ N_i} log exp(s_ia/τ) / Σ_{p ∈ P_i} exp(s_ip/τ), s the cosine; P_i: the
    retained samples of i's class, N_i: all others. `forgotten` (N, p), `retained` (M, p), any
    length; `own` (N,), `others` (M,): their classes. An anchor for which P_i or N_i is empty has
    nothing to be moved by and is left out; without any the loss is 0. `ValueError` for shapes that
    do not fit.
    """
    fitting = forgotten.ndim == retained.ndim == 2 and forgotten.shape[1] == retained.shape[1]
    if not fitting or own.shape != forgotten.shape[:1] or others.shape != retained.shape[:1]:
        raise ValueError(
            f"need (N, p) and (M, p) with N and M classes, got {tuple(forgotten.shape)}, "
            f"{tuple(retained.shape)}, {tuple(own.shape)} and {tuple(others.shape)}"
        )
    same = own[:, None] == others[None, :]
    usable = same.any(dim=1) & ~same.all(dim=1)
    rows = F.normalize(forgotten.float(), dim=1)[usable]
    logits = product(rows, F.normalize(retained.float(), dim=1)) / temperature
    same = same[usable]
    if not len(same):
        return forgotten.float().sum() * 0
    from_own = logits.masked_fill(~same, -torch.inf).logsumexp(dim=1)
    to_others = logits.masked_fill(same, 0).sum(dim=1) / (~same).sum(dim=1)
    return (from_own - to_others).mean()


def another_as_positive(a: Tensor, b: Tensor, other: Tensor, temperature: float) -> Tensor:
    """NT-Xent in which row i's positive is the view `b` of another image, `other[i]` ≠ i; its own
    view is a negative. `a`, `b` (N, p), any length; `other` (N,): a permutation."""
    if bool((other == torch.arange(len(other), device=other.device)).any()):
        raise ValueError("an image is its own positive")
    return nt_xent(a, b[other], temperature)


def alignment(a: Tensor, b: Tensor) -> Tensor:
    """mean_i cos(a_i, b_i), of two views (N, p) of the same images."""
    return F.cosine_similarity(a.float(), b.float(), dim=1).mean()


def derangement(n: int, generator: torch.Generator) -> Tensor:
    """A random permutation (n,) that leaves nothing in its place: one cycle. `ValueError` for
    n < 2."""
    if n < 2:
        raise ValueError(f"{n} images: there is no other")
    order = torch.randperm(n, generator=generator, device=generator.device)
    found = torch.empty_like(order)
    found[order] = order.roll(1)
    return found
