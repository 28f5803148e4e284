"""The coordinate-wise trimmed mean: in each number, the f largest and the f smallest are left out.

w_p ← mean of w_k,p over the n - 2f sites in the middle, number by number. Each site counts once,
whatever number of images it claims. With at most f Byzantine sites and n > 2f, each number lies
within the range of the honest ones'. With n = 2f + 1 it is the median.

Source: Yin et al., ICML 2018 (arXiv 1803.01498), definition 2, with β = f/n.
"""

from collections.abc import Sequence

from server.aggregation.rows import Doubles, Rows


def trimmed_mean(parts: Sequence[Rows], byzantine: int) -> list[Doubles]:
    """The mean change of each number without the `byzantine` largest and smallest."""

    def middle(block: Doubles) -> Doubles:
        block.sort(axis=0)
        mean: Doubles = block[byzantine : len(block) - byzantine].mean(axis=0)
        return mean

    return [part.by_columns(middle) for part in parts]
