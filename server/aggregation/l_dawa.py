"""L-DAWA: each layer of each site counts by its angle to the layer that was sent.

With W_g,l layer l as sent and W_k,l as site k trained it, K sites, c_k,l = cos(W_k,l, W_g,l):
- `l-dawa`, the paper's: W_l ← (1/K) Σ_k c_k,l·W_k,l. The cosines are below 1, so each round shrinks
  the layers, the more so the farther the sites turn them.
- `l-dawa-normalised`, ours: W_l ← Σ_k c⁺_k,l·W_k,l / Σ_k c⁺_k,l with c⁺ = max(c, 0), an average
  that keeps the length: it lies between the sites' layers, of which those that were turned round
  have no say. Where no c⁺ is above 0, the layer is FedAvg's mean.
The sites' numbers of images play no part (but in FedAvg's mean). A layer is one tensor: a weight, a
bias, a normalisation's scale. Where one of the two is all 0 (a new bias) the angle is undefined,
and c is 1. Running statistics (`.buffers`) are FedAvg's weighted means; the authors' code treats
those as layers, too.
Replies are folded as they arrive, in sums whose bits do not depend on the order.

Source: Rehman et al., "L-DAWA: Layer-wise Divergence Aware Weight Aggregation in Federated
Self-Supervised Visual Representation Learning", ICCV 2023 (arXiv 2307.07393), and the authors'
code.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from common.protocol.layout import BUFFERS, Layout
from common.protocol.messages import Floats, Groups
from server.aggregation.mean import LIMIT, ExactSum, WeightedMean

Doubles = NDArray[np.float64]


class LayerwiseCosine:
    """Folds the sites' groups, each layer times its cosine with what was sent, and divides by the
    number of sites."""

    normalised: ClassVar[bool] = False
    least: ClassVar[float] = -1.0

    def __init__(self, layout: Layout, received: Groups, examples: int) -> None:
        sizes = {name: len(array) for name, array in received.items()}
        # Checks every reply, and gives the buffers and what stands in for an undefined average.
        self._mean = WeightedMean(sizes, examples)
        self._received = {n: array for n, array in received.items() if not n.endswith(BUFFERS)}
        self._layers = {name: layers(layout, name) for name in self._received}
        self._sums = {name: ExactSum(sizes[name], LIMIT * examples) for name in self._received}
        self._cosines = {n: ExactSum(len(found), examples) for n, found in self._layers.items()}
        self._sites = 0
        self.examples = 0

    def fold(self, groups: Groups, examples: int) -> None:
        """Add one site's arrays. `ValueError`, before anything is added, for what does not fit."""
        self._mean.fold(groups, examples)
        for name, received in self._received.items():
            values = groups[name].astype(np.float64)
            cosines = np.ones(len(self._layers[name]))
            for index, layer in enumerate(self._layers[name]):
                turned = cosine(values[layer], received[layer].astype(np.float64))
                cosines[index] = max(turned, self.least)
                values[layer] *= cosines[index]
            self._sums[name].add(values)
            self._cosines[name].add(cosines)
        self._sites += 1
        self.examples = self._mean.examples

    def result(self) -> dict[str, Floats]:
        """The new groups. `ValueError` if nothing was folded."""
        new = self._mean.result()
        for name, found in self._layers.items():
            total, cosines = self._sums[name].total(), self._cosines[name].total()
            for layer, weight in zip(found, cosines, strict=True):
                divisor = weight if self.normalised else self._sites
                if divisor > 0:
                    new[name][layer] = (total[layer] / divisor).astype(np.float32)
        return new


class NormalisedLayerwiseCosine(LayerwiseCosine):
    """The same, divided by the sum of the cosines, none of which is negative."""

    normalised, least = True, 0.0


def layers(layout: Layout, group: str) -> list[slice]:
    """Where each tensor of `group` lies in its flat array."""
    sizes = [int(np.prod(shape, dtype=np.int64)) for _, shape in layout.groups[group]]
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def cosine(a: Doubles, b: Doubles) -> float:
    """cos(a, b) of two vectors (n,), between -1 and 1; 1 where one of them is all 0."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(a @ b / lengths, -1, 1)) if lengths > 0 else 1.0
