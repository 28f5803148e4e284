"""Two views of an image relate alike to other images.

Source: Han et al., "FedX", ECCV 2022 (arXiv 2207.09158), and the authors' code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def relation(
    x: Tensor, y: Tensor, others: Tensor, temperature: float, mean_temperature: float
) -> Tensor:
    """R of two views `x` and `y` (N, p) of the same images towards `others` (M, p), any length;
    the mean relation has its own temperature. Gradients flow through all three, as in the code."""
    if x.shape != y.shape or x.ndim != 2 or others.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"need two (N, p) tensors and (M, p) others, got {x.shape}, {y.shape} and "
            f"{others.shape}"
        )
    with torch.autocast(x.device.type, enabled=False):
        towards = F.normalize(others.float(), dim=1).T
        cosines = [F.normalize(view.float(), dim=1) @ towards for view in (x, y)]
    mean = torch.stack([torch.softmax(c / mean_temperature, dim=1) for c in cosines]).mean(dim=0)
    divergences = [
        F.kl_div(torch.log_softmax(c / temperature, dim=1), mean, reduction="batchmean")
        for c in cosines
    ]
    return torch.stack(divergences).mean()
