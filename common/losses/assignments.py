"""One view predicts which prototypes the other one is assigned to.

Sources: Caron et al., "SwAV", NeurIPS 2020 (arXiv 2006.09882), eqs. 1 and 2; Lubana et al.,
"Orchestra", ICML 2022 (arXiv 2205.11506).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def assignment_error(scores: Tensor, assignments: Tensor, temperature: float) -> Tensor:
    """-mean_i Σ_k Q_ik log softmax(S_i/τ)_k, for `scores` S and `assignments` Q, (N, K)."""
    if scores.shape != assignments.shape or scores.ndim != 2:
        raise ValueError(
            f"need two (N, K) tensors, got {tuple(scores.shape)} and {tuple(assignments.shape)}"
        )
    predicted = (scores.float() / temperature).log_softmax(dim=1)
    return -(assignments * predicted).sum(dim=1).mean()


def disagreement(z: Tensor, t: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """-mean_i q(t_i)·log q(z_i), q(x) = softmax(C x / T) with x, and C if not 0, of unit length.

    `z`, `t` (N, p), `prototypes` C (G, p). No gradient to `t`.
    """
    if z.shape != t.shape or z.ndim != 2 or prototypes.shape[1:] != z.shape[1:]:
        raise ValueError(
            f"need two (N, p) tensors and (G, p) prototypes, got {tuple(z.shape)}, "
            f"{tuple(t.shape)} and {tuple(prototypes.shape)}"
        )
    c = prototypes.detach().float()
    with torch.autocast(z.device.type, enabled=False):
        wanted = F.normalize(t.detach().float(), dim=1) @ c.T / temperature
        given = F.normalize(z.float(), dim=1) @ c.T / temperature
    return -(wanted.softmax(dim=1) * given.log_softmax(dim=1)).sum(dim=1).mean()
