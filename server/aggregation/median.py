"""The coordinate-wise median: in each number, half of the sites lie on either side.

w_p ← median_k w_k,p. Each site counts once, whatever number of images it claims. With fewer than
half of the sites Byzantine, each number lies within the range of the honest ones'. (That says
nothing of the numbers together: where sites honestly differ, the median of each number may be near
no site's model.)

Source: Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML
2018 (arXiv 1803.01498), definition 1, where gradients are what is aggregated.
"""

from collections.abc import Sequence

import numpy as np

from server.aggregation.rows import Doubles, Rows


def median(parts: Sequence[Rows], byzantine: int) -> list[Doubles]:
    """The median change of each number; of an even number of sites the mean of the middle two."""
    return [part.by_columns(lambda block: np.median(block, axis=0)) for part in parts]
