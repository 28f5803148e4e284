"""How far points are from the uniform distribution on the sphere, along random directions.

Source: Liao et al., "FedU2", CVPR 2024 (arXiv 2403.16398), and the authors' code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def distance_from_uniform(z: Tensor, directions: int, generator: torch.Generator) -> Tensor:
    """Sliced Wasserstein distance of `z` (N, p), scaled to unit length, from N points drawn
    uniformly from the sphere, over so many random directions."""
    n, width = z.shape
    drawn = torch.randn(n + directions, width, generator=generator, device=generator.device).to(
        z.device
    )
    uniform = F.normalize(drawn[:n], dim=1)
    return sliced_wasserstein(F.normalize(z.float(), dim=1), uniform, drawn[n:])


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
    """Mean over `directions` (m, p) of the squared 2-Wasserstein distance between the values of
    `x` (N, p) and of `y` (N, p) along them."""
    if x.shape != y.shape or x.ndim != 2 or directions.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"need two (N, p) tensors and (m, p) directions, got {x.shape}, {y.shape} and "
            f"{directions.shape}"
        )
    with torch.autocast(x.device.type, enabled=False):  # differences of nearly equal values
        along_x, along_y = (points.float() @ directions.T for points in (x, y))
    return (along_x.sort(dim=0).values - along_y.sort(dim=0).values).square().mean()
