"""Log-mean-exp of similarities to second order: InfoNCE's repulsion from two moments.

Source: ours; the expansion is that of a cumulant generating function, log E exp(x) = E x +
Var x / 2 + O(third cumulant), which is exact for a normal x.
"""

import torch
from torch import Tensor


def second_order_repulsion(mean: Tensor, moment: Tensor, temperature: float) -> Tensor:
    """E_i[log E_j exp(z_i·z_j/τ)] to second order, from m = E[z] (p,) and R = E[z zᵀ] (p, p):
    m·m/τ + (tr(R²) - mᵀRm) / 2τ². `ValueError` for shapes that do not fit."""
    if moment.shape != (len(mean), len(mean)):
        raise ValueError(f"a mean {tuple(mean.shape)} and moments {tuple(moment.shape)}")
    with torch.autocast(mean.device.type, enabled=False):
        spread = moment.square().sum() - mean @ moment @ mean
        repulsion: Tensor = mean @ mean / temperature + spread / (2 * temperature**2)
    return repulsion
