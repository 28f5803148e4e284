"""Decorrelation around another objective: dimensions of the projections must not repeat each other.

L = L_first + β·‖K‖²_F / d², K (d, d) the correlation matrix of the projections of both views.
The term lies between 1/d, all dimensions uncorrelated, and 1, all the same: dimensional collapse.
With `first = "ccfc"` and `"ccfc-clusters"` in the two stages this is CCFC++; with any other, that
objective with FedDecorr's regulariser.
Shared, local, received: what the objective inside has.

FedDecorr's paper prints the formula above with β = .1; its code leaves out the diagonal and
divides N·K by √N instead of N, so that its term is about N times as large. Ours is the paper's (in
a trial on digits, skewed, β = 6 decorrelated far more and clustered worse). No code of CCFC++ is
public; that it takes FedDecorr's regulariser, on the projections that it clusters, is our reading.
Sources: Shi et al., "Towards Understanding and Mitigating Dimensional Collapse in Heterogeneous
Federated Learning" (FedDecorr), ICLR 2023 (arXiv 2210.00226); Yan et al., "CCFC++: Enhancing
Federated Clustering through Feature Decorrelation" (arXiv 2402.12852).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from common.losses.redundancy import correlation
from common.models.encoders import Encoder
from common.objectives.base import Objective, Representations
from common.objectives.wrapper import Wrapper


@dataclass(frozen=True)
class Parameters:
    """`first`: the objective inside; `decorrelation_weight` β (FedDecorr's .1)."""

    first: str = "ccfc"
    decorrelation_weight: float = 0.1


class Decorrelated(Wrapper):
    """`inner` with its projections decorrelated; everything else is `inner`'s."""

    def __init__(
        self, encoder: Encoder, parameters: Parameters, clusters: int, first: Objective
    ) -> None:
        super().__init__(first)
        self.weight = parameters.decorrelation_weight

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        repeated = correlation(torch.cat([seen.z_a, seen.z_b]))
        return {**self.inner.terms(seen), "decorrelation": self.weight * repeated}
