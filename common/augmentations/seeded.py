"""Chance for each image from a seed of its own, for a whole batch at once.

A generator gives one stream, in which each image's numbers depend on those before it. Here number i
of an image is a hash of its seed and i: whole numbers, so that every device gives the same ones.
The hash is SplitMix64's (Steele, Lea and Flood, OOPSLA 2014): seed + i·γ, mixed.
"""

import math

import torch
from torch import Tensor

from common.augmentations.operations import Draws

GAMMA = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as an int64: 2^64 over the golden ratio
MIX = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
UNIFORM, HALF = 24, 32  # bits of a float32 in [0, 1); of half a hash


class SeededChance:
    """The chance of one view of N images with `seeds` (N,) int64."""

    def __init__(self, seeds: Tensor) -> None:
        self._seeds = seeds

    @property
    def draws(self) -> Draws:
        """What `Draws.of` draws."""
        numbers = self._hashes(0, len(Draws._fields))
        return Draws(*(_top(numbers, UNIFORM).float() * 2.0**-UNIFORM).T.contiguous().unbind())

    def noise(self, shape: torch.Size) -> Tensor:
        """Normal numbers of `shape` (N, ...), two from each hash (Box and Muller, 1958)."""
        count = math.prod(shape[1:])
        numbers = self._hashes(len(Draws._fields), -(-count // 2))
        radius = (-2 * ((_top(numbers, HALF) + 0.5) * 2.0**-HALF).float().log()).sqrt()
        angle = ((numbers & (2**HALF - 1)) * (2 * math.pi * 2.0**-HALF)).float()
        pairs = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return pairs[:, :count].reshape(shape)

    def _hashes(self, start: int, count: int) -> Tensor:
        """Numbers `start`, `start` + 1, ... of each image: (N, count) int64."""
        index = torch.arange(start + 1, start + count + 1, device=self._seeds.device)
        return mixed(self._seeds[:, None] + index * GAMMA)


def mixed(z: Tensor) -> Tensor:
    """SplitMix64's finaliser of int64 `z`: all bits of the result depend on all of `z`."""
    z = (z ^ _right(z, 30)) * MIX[0]
    z = (z ^ _right(z, 27)) * MIX[1]
    return z ^ _right(z, 31)


def _right(z: Tensor, bits: int) -> Tensor:
    """A shift that fills up with zeros; torch's repeats the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _top(z: Tensor, bits: int) -> Tensor:
    """The highest `bits`, as numbers from 0."""
    return _right(z, 64 - bits)
