"""The parts of the spectral contrastive loss that need second moments only.

Source: HaoChen, Wei, Gaidon and Ma, NeurIPS 2021 (arXiv 2106.04156), eq. 6; with a shared moment:
ours (`common/objectives/spectral_contrastive.py`).
"""

import torch
from torch import Tensor


def second_moment(z: Tensor) -> Tensor:
    """E[z zᵀ] (p, p) of the rows of z (N, p)."""
    with torch.autocast(z.device.type, enabled=False):
        moment: Tensor = z.T @ z / len(z)
    return moment


def explained(own: Tensor, mean: Tensor) -> Tensor:
    """1 - ‖R⁰_k - R̄‖² / ‖R̄‖² of moments (p, p): 1 where they are equal, and below 0 where the own
    one is farther from R̄ than nothing is."""
    return 1 - (own - mean).square().sum() / mean.square().sum().clamp_min(1e-12)


def repulsion(moment: Tensor, others: Tensor | None = None, weight: Tensor | float = 1) -> Tensor:
    """β·tr(R²) + 2·tr(R D) of symmetric R and D (p, p), β = `weight`; without D, tr(R²)."""
    if others is None:
        return moment.square().sum()
    if moment.shape != others.shape:
        raise ValueError(f"moments {tuple(moment.shape)} and {tuple(others.shape)} do not fit")
    total: Tensor = weight * moment.square().sum() + 2 * (moment * others).sum()
    return total
