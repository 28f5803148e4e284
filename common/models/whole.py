"""Layers whose outputs are the same bits in any batch, in any order, on any number of cores.

A float's sum depends on the order in which it is added up, and a product of matrices orders sums
by the shape of the batch. Here rows are whole numbers of 2^-14 of length 1 at most, and weights
whole numbers of 2^-26 of the largest one's power of two: every partial sum of their products fits
the 53 bits of a float64, up to 4096 numbers in a row. Lengths are added up in an order of their
own. Where a library's exp is not the same to the last bit in every place of a vector, the cut to
2^-14 behind it takes that away, but once in some 10^11 numbers.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.models.heads import UnitLinear

STEP = 2.0**-14  # what one unit of a row stands for
BITS = 26  # of the largest weight
FINE = 2.0**-20  # what one unit of a centre stands for: sums of cosines are exact, too


def root(numbers: Tensor) -> Tensor:
    """√ of float64 `numbers`, rounded as IEEE 754 says. On a CPU torch's own is not: one number in
    some hundred is another in its last bit, and which ones may depend on where they stand. (Where a
    gradient is asked for, it is torch's.)"""
    plain = numbers.device.type == "cpu" and not numbers.requires_grad
    if plain and not torch.compiler.is_exporting():
        return torch.from_numpy(np.sqrt(numbers.numpy()))
    return numbers.sqrt()


def whole(rows: Tensor) -> Tensor:
    """Rows (N, d) at unit length, cut down to multiples of 2^-14: float64."""
    wide = rows.double()
    length = root(_squares(wide)).clamp_min(1e-12)
    return (wide / length / STEP).trunc() * STEP


def cosines(rows: Tensor, centres: Tensor) -> Tensor:
    """Products (N, K) of `whole` rows (N, d) with centres (K, d) of unit length, float64; exact but
    for the centres, of which multiples of 2^-20 are taken."""
    return rows.double() @ ((centres.double() / FINE).round() * FINE).T


def cut(weights: Tensor) -> Tensor:
    """Weights (p, d) as whole numbers of 2^-26 of the largest one's power of two."""
    unit = 2.0 ** (math.frexp(float(weights.detach().abs().max()))[1] - BITS)
    return ((weights.double() / unit).round() * unit).to(weights.dtype)


def product(rows: Tensor, weights: Tensor) -> Tensor:
    """Products (N, p) of rows (N, d), multiples of 2^-14, with `weights` (p, d): float64, exact
    where these have been `cut`."""
    return rows.double() @ weights.double().T


class WholeUnitLinear(UnitLinear):
    """As `UnitLinear`, of rows that are made `whole` first."""

    def forward(self, h: Tensor) -> Tensor:
        """h (N, d) -> (N, p), float32."""
        return (product(whole(h), self.linear.weight) + self.linear.bias.double()).float()


class WholeLinear(nn.Linear):
    """A linear map without bias of rows of multiples of 2^-14."""

    def forward(self, rows: Tensor) -> Tensor:
        """(N, d) -> (N, p), float32."""
        return product(rows, self.weight).float()


def _squares(rows: Tensor) -> Tensor:
    """Σ x² (N, 1), added up in pairs: a row's bits are its own."""
    found = rows.square()
    while found.shape[1] > 1:
        half = (found.shape[1] + 1) // 2
        found = F.pad(found, (0, 2 * half - found.shape[1]))
        found = found[:, :half] + found[:, half:]
    return found
