"""The sites' updates side by side, for rules that need all of them at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS = 1 << 22  # numbers of all sites handled at once in float64: 32 MiB

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """`rows`: one vector (P,) per site; `origin` (P,): what all of them started from."""

    rows: Sequence[NDArray[np.floating[Any]]]
    origin: NDArray[np.floating[Any]]

    def blocks(self) -> Iterator[tuple[slice, Doubles]]:
        """What the sites changed: (columns, changes (n, columns)), some columns at a time so that
        float64 stays small. The caller may write into the changes."""
        columns = max(1, CELLS // len(self.rows))
        for begin in range(0, len(self.origin), columns):
            part = slice(begin, begin + columns)
            block = np.stack([row[part] for row in self.rows]).astype(np.float64)
            yield part, block - self.origin[part].astype(np.float64)

    def gram(self) -> Doubles:
        """Inner products (n, n) of the changes."""
        total = np.zeros((len(self.rows), len(self.rows)))
        for _, block in self.blocks():
            total += block @ block.T
        return total

    def by_columns(self, rule: Callable[[Doubles], Doubles]) -> Doubles:
        """The change (P,) that `rule` makes of each block of changes (n, columns)."""
        change = np.empty(len(self.origin))
        for part, block in self.blocks():
            change[part] = rule(block)
        return change


def squared_distances(gram: Doubles) -> Doubles:
    """Between points, (n, n), from their inner products (n, n)."""
    squares = gram.diagonal()
    found: Doubles = (squares[:, None] + squares - 2 * gram).clip(min=0)
    return found


Rule = Callable[[Sequence[Rows], int], list[Doubles]]
"""From the parts of all sites' updates (parameters; running statistics) and the number f of sites
that may be Byzantine, to the change of each part. Every part has the same sites in the same order,
at least 2f + m of them with the m of `common/config/byzantine.py`."""
