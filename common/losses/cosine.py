"""Prediction of one projection from another, by the cosine between them.

Sources: Grill et al., "BYOL", NeurIPS 2020 (arXiv 2006.07733), eq. 2; Chen and He, "SimSiam", CVPR
2021 (arXiv 2011.10566), eq. 1, on BYOL's scale.
"""

import torch.nn.functional as F
from torch import Tensor


def prediction_error(predicted: Tensor, target: Tensor) -> Tensor:
    """mean_i 2 - 2 cos(p_i, sg t_i), for (N, p) tensors; between 0 and 4."""
    return cosine_distance(predicted, target.detach())


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """mean_i 2 - 2 cos(a_i, b_i), for (N, p) tensors, with gradients to both; between 0 and 4."""
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"need two (N, p) tensors, got {tuple(a.shape)} and {tuple(b.shape)}")
    return 2 - 2 * F.cosine_similarity(a.float(), b.float(), dim=1).mean()
