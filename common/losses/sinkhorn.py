"""Sinkhorn's algorithm: soft assignments whose clusters have prescribed sizes.

Of all assignments Q (N, K) of N rows to K clusters with Σ_k Q_ik = 1 and Σ_i Q_ik = N·m_k, the one
that maximises Σ_ik Q_ik s_ik + ε·H(Q) is Q_ik = exp(s_ik/ε + u_i + v_k); u and v are found by
setting column sums and row sums right in turn. It ends with the rows, so each is a distribution;
the columns are right up to what the iterations left.
Sources: Cuturi, NeurIPS 2013 (arXiv 1306.0895), algorithm 1; Caron et al., "SwAV", NeurIPS 2020
(arXiv 2006.09882), eqs. 3 to 5.
"""

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn(
    scores: Tensor, epsilon: float, iterations: int, marginals: Tensor | None = None
) -> Tensor:
    """Assignments (N, K) of `scores` (N, K), float32, without gradient; each row sums to 1.

    `epsilon` > 0: the smaller, the harder. `iterations` >= 1: rounds of columns, then rows.
    `marginals` (K,): the clusters' shares of all rows, non-negative, of sum 1; None: equal shares.
    Computed with logarithms: exp(s/ε) overflows for cosines and ε below .012. `ValueError` for
    shapes that do not fit.
    """
    if scores.ndim != 2 or not scores.numel():
        raise ValueError(f"need (N, K) scores with N, K >= 1, got {tuple(scores.shape)}")
    if epsilon <= 0 or iterations < 1:
        raise ValueError(f"need epsilon > 0 and iterations >= 1, got {epsilon} and {iterations}")
    n, k = scores.shape
    if marginals is None:
        marginals = torch.full((k,), 1 / k, device=scores.device)
    elif marginals.shape != (k,):
        raise ValueError(f"need ({k},) marginals, got {tuple(marginals.shape)}")
    # Sizes and not shares, or u and v would drift apart by log N with each iteration.
    logits, sizes = scores.float() / epsilon, n * marginals.float()
    rows = torch.zeros(n, 1, device=scores.device)  # u
    for _ in range(iterations):
        columns = sizes.log() - (logits + rows).logsumexp(dim=0)  # v; -inf for a share of 0
        rows = -(logits + columns).logsumexp(dim=1, keepdim=True)
    return (logits + columns).softmax(dim=1)
