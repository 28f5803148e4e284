"""A site's sums of kept features: exact, so they are the same in any order and for any spread.

Features are whole numbers of 2^-14 (`client/features.py`). With s = a + b, d = a - b of two views
    Σ ½(a aᵀ + b bᵀ) = ¼ (Σ s sᵀ + Σ d dᵀ),      Σ (a - b)(a - b)ᵀ = Σ d dᵀ,
two products instead of three. Entries of s and d are within ±2^15, so that float64 holds each sum
over up to 2^22 images to the last bit, whatever adds it up.

Points of multiples of 2^-14 and centres of multiples of 2^-20 have exact cosines, so which centre
is the nearest, and sums over images, depend on nothing else.
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from client.statistics.clusters import nearest
from common.models.whole import STEP
from common.protocol.messages import Counts

Pair = tuple[Tensor, Tensor]
BLOCK = 384  # columns of a symmetric product that are taken at once


@torch.no_grad()
def view_moments(
    pairs: Iterable[Pair], width: int, device: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`gram` (d + 1, d + 1) and `within` (d, d) as of `client/statistics/solving.py`, from `pairs`
    (n, d) of whole numbers."""
    both = torch.zeros(width + 1, width + 1, dtype=torch.float64, device=device)
    within = torch.zeros(width, width, dtype=torch.float64, device=device)
    one = 1 / STEP  # the 1 that is appended to either view, in the same unit
    for a, b in pairs:
        total = F.pad((a + b).double(), (0, 1), value=2 * one)
        difference = (a - b).double()
        _add_products(both, total)
        _add_products(within, difference)
    both, within = (_mirrored(each) for each in (both, within))
    gram = (both + F.pad(within, (0, 1, 0, 1))) / 4
    return (gram * STEP**2).cpu().numpy(), (within * STEP**2).cpu().numpy()


def _add_products(below: Tensor, rows: Tensor) -> None:
    """Add Σ x xᵀ of the `rows` (n, d), up to its diagonal and a little above, to `below` (d, d)."""
    for start in range(0, len(below), BLOCK):
        end = start + BLOCK
        below[start:end, :end].addmm_(rows[:, start:end].T, rows[:, :end])


def _mirrored(below: Tensor) -> Tensor:
    return below.tril() + below.tril(-1).T


@torch.no_grad()
def sums_by_centre(
    points: Tensor, centres: Tensor, min_count: int
) -> tuple[NDArray[np.float64], Counts]:
    """Sums (m, d) and numbers (m,) of the `points` (N, d), multiples of 2^-14, that are nearest to
    each of the unit-length `centres` (m, d); 0 of a centre with fewer than `min_count` of them."""
    labels = nearest(points, centres)
    sums = torch.zeros(len(centres), points.shape[1], dtype=torch.float64, device=points.device)
    sums.index_add_(0, labels, points.double())
    counts = torch.bincount(labels, minlength=len(centres))
    sent = counts >= min_count
    return (sums * sent[:, None]).cpu().numpy(), (counts * sent).cpu().numpy().astype(np.int64)
