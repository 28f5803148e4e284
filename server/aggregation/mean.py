"""Exact, order-free weighted means of flat arrays, folded as replies arrive.

Floating-point addition depends on the order of arrival, so no run would repeat bit for bit. Here
values are added as fixed-point integers in two limbs: addition of integers is exact and commutes.
The server holds one accumulator, whatever the number of sites, and never a list of replies. Sums of
integers also suit secure aggregation.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.protocol.messages import Floats, Groups

LIMIT = 4096.0  # no parameter of a sane network is beyond ±2¹²; a reply that is gets refused
HIGH_BITS = 61  # of an int64, one is the sign and one is kept free
LOW_BITS = 40  # the second limb: 2²² addends of at most 2³⁹ each fit an int64
CHUNK = 1 << 20  # numbers handled at once, to keep temporaries small


class ExactSum:
    """Σ of float64 vectors of `size` numbers, exact to 2^-(HIGH_BITS + LOW_BITS) of `bound`.

    The caller guarantees that no partial sum goes beyond ±`bound` in any number.
    """

    def __init__(self, size: int, bound: float) -> None:
        self._shift = HIGH_BITS - max(0, math.ceil(math.log2(bound)))
        self._high = np.zeros(size, np.int64)
        self._low = np.zeros(size, np.int64)

    def add(self, values: NDArray[np.floating[Any]], weight: int = 1) -> None:
        """Add `weight`·`values` ((size,) float32 or float64)."""
        if values.shape != self._high.shape:
            raise ValueError(f"expected {self._high.shape} numbers, got {values.shape}")
        for start in range(0, len(values), CHUNK):
            part = slice(start, start + CHUNK)
            product = values[part].astype(np.float64) * weight  # exact: 24 + 29 bits fit in 53
            high = np.rint(np.ldexp(product, self._shift))
            rest = product - np.ldexp(high, -self._shift)
            self._high[part] += high.astype(np.int64)
            self._low[part] += np.rint(np.ldexp(rest, self._shift + LOW_BITS)).astype(np.int64)

    def total(self) -> NDArray[np.float64]:
        """The sum (size,) as float64."""
        high = np.ldexp(self._high.astype(np.float64), -self._shift)
        low = np.ldexp(self._low.astype(np.float64), -self._shift - LOW_BITS)
        return high + low


class Check:
    """What an update must be before it is used. `sizes`: numbers in each group; `examples`: the
    most that the sites' examples can be in all."""

    def __init__(self, sizes: Mapping[str, int], examples: int) -> None:
        if not 0 < examples < 2**40:
            raise ValueError(f"examples must be between 1 and 2^40, got {examples}")
        self._sizes = dict(sizes)
        self._limit = examples

    def __call__(self, groups: Groups, examples: int, so_far: int) -> None:
        """`ValueError` for an update of `examples`, with `so_far` of others, that cannot be
        used."""
        if not 0 < examples <= self._limit - so_far:
            raise ValueError(f"{examples} examples: the sites announced {self._limit} in all")
        if groups.keys() != self._sizes.keys():
            raise ValueError(f"groups {sorted(groups)} are not {sorted(self._sizes)}")
        for name, values in groups.items():
            if values.shape != (self._sizes[name],):
                raise ValueError(
                    f"{name}: expected {self._sizes[name]} numbers, got {values.shape}"
                )
            if len(values) and not np.abs(values).max() <= LIMIT:
                raise ValueError(f"{name}: values beyond ±{LIMIT:g}, or not finite")


class WeightedMean:
    """FedAvg: Σ_k n_k·x_k / Σ_k n_k over the sites that answered (McMahan et al., AISTATS 2017).

    `sizes`: numbers in each group; `examples`: the most that Σ n_k can be. The weights sum to 1
    over those who took part, whoever they are. One site alone gives back its own bits.
    """

    def __init__(self, sizes: Mapping[str, int], examples: int) -> None:
        self._check = Check(sizes, examples)
        self._sums = {name: ExactSum(size, LIMIT * examples) for name, size in sizes.items()}
        self.examples = 0

    def fold(self, groups: Groups, examples: int) -> None:
        """Add one site's arrays with the weight of its `examples`. `ValueError`, before anything
        is added, for what cannot be averaged."""
        self._check(groups, examples, self.examples)
        for name, values in groups.items():
            self._sums[name].add(values, examples)
        self.examples += examples

    def result(self) -> dict[str, Floats]:
        """The mean of what was folded in, as float32. `ValueError` if that is nothing."""
        if not self.examples:
            raise ValueError("nothing to average: no site's update was accepted")
        return {
            name: (total.total() / self.examples).astype(np.float32)
            for name, total in self._sums.items()
        }
