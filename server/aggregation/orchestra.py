"""Orchestra's aggregation: FedAvg of the networks, and a clustering of the sites' centroids.

The group `prototypes` of a site holds its own centroids (rows of unit length) and then rows of 0.
From the Z (M, p) of all sites come the global prototypes C (G, p) by 500 steps of SGD on
-mean_i cos(Q_i, softmax(Z_i Cᵀ/T)), Q the Sinkhorn assignment of Z Cᵀ to G equally large clusters;
after each step C is scaled to unit length. C starts from what the sites were sent, in the first
round from random directions, drawn by the networks that the sites were sent, so by the run's seed.
The rows of all sites are kept until then, and put in order first, so that who answers when changes
nothing. Where no site sends a centroid, C stays as it is.
Source: Lubana et al., ICML 2022 (arXiv 2205.11506), and its code for the numbers.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from common.losses.sinkhorn import sinkhorn
from common.objectives.orchestra import EPSILON, TEMPERATURE
from common.protocol.layout import Layout
from common.protocol.messages import Floats, Groups
from common.utils.errors import UserError
from common.utils.seeds import generator
from server.aggregation.mean import WeightedMean

PROTOTYPES = "prototypes"  # the group's name
STEPS, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 500, 0.01, 0.9, 1e-4
ITERATIONS = 10  # of Sinkhorn in each step; the authors' 100 give the same loss to three digits


class Orchestra:
    """Folds the sites' groups; `prototypes` become the global ones, everything else the mean."""

    def __init__(self, layout: Layout, received: Groups, examples: int) -> None:
        if PROTOTYPES not in layout.groups:
            raise UserError("aggregation 'orchestra' needs objective 'orchestra'")
        ((_, shape),) = layout.groups[PROTOTYPES]
        self._shape = shape
        self._received = self._start = received[PROTOTYPES].reshape(shape)
        rest = {name: len(array) for name, array in received.items() if name != PROTOTYPES}
        self._mean = WeightedMean(rest, examples)
        self._rows: list[Floats] = []
        if not self._received.any():
            networks = b"".join(received[name].tobytes() for name in sorted(rest))
            self._start = random_directions(shape, hashlib.sha256(networks).hexdigest())
        self.examples = 0

    def fold(self, groups: Groups, examples: int) -> None:
        """Add one site's arrays. `ValueError`, before anything is added, for what does not fit."""
        if PROTOTYPES not in groups or groups[PROTOTYPES].size != self._received.size:
            raise ValueError(f"{PROTOTYPES}: not {self._received.size} numbers")
        rows = groups[PROTOTYPES].reshape(self._shape)
        lengths = np.linalg.norm(rows, axis=1)
        used = lengths > 0
        if not (np.abs(lengths[used] - 1) < 1e-3).all() or np.isnan(lengths).any():
            raise ValueError(f"{PROTOTYPES}: rows that are neither 0 nor of unit length")
        self._mean.fold({k: v for k, v in groups.items() if k != PROTOTYPES}, examples)
        self._rows.append(rows[used].copy())
        self.examples = self._mean.examples

    def result(self) -> dict[str, Floats]:
        """The new groups. `ValueError` if nothing was folded."""
        groups = self._mean.result()
        local = np.concatenate(self._rows)
        prototypes = global_prototypes(local, self._start) if len(local) else self._received
        return {**groups, PROTOTYPES: prototypes.reshape(-1)}


def random_directions(shape: Sequence[int], seed: str) -> Floats:
    """Directions (G, p), the same for the same `seed`."""
    drawn: Floats = torch.randn(*shape, generator=generator("cpu", PROTOTYPES, seed)).numpy()
    return drawn


def global_prototypes(local: Floats, start: Floats) -> Floats:
    """G prototypes of unit length from `local` (M, p), in any order, and `start` (G, p), none of
    them 0. The result is the same for the same rows on the same machine."""
    ordered = sorted(local, key=lambda row: row.tobytes())
    points = F.normalize(torch.from_numpy(np.stack(ordered)), dim=1)
    first = torch.from_numpy(np.array(start, np.float32))
    prototypes = F.normalize(first, dim=1).requires_grad_()
    optimiser = torch.optim.SGD(
        [prototypes], lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    for _ in range(STEPS):
        cosines = points @ prototypes.T
        balanced = sinkhorn(cosines, EPSILON, ITERATIONS)
        plain = (cosines / TEMPERATURE).softmax(dim=1)
        loss = -F.cosine_similarity(balanced, plain, dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            prototypes.copy_(F.normalize(prototypes, dim=1))
    return prototypes.detach().numpy()
