"""Gradient ascent: what the training minimised is made larger on the images that are forgotten.

L = L_obj(retained) - w·L_obj(forgotten), L_obj the objective that trained the encoder.
Without the first term it is plain ascent, which takes everything apart. Losses without a bound are
kept in check by the clipped gradient (`client/tasks/unlearn.py`) and the few passes.
Source: Golatkar et al., CVPR 2020 (arXiv 1911.04933, the baseline NegGrad); with the first term:
Kurmanji et al., NeurIPS 2023 (arXiv 2302.09880, NegGrad+).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from common.objectives.base import Objective
from common.unlearning import base
from common.unlearning.base import Side, Unlearning, utility


@dataclass(frozen=True)
class Parameters(base.Parameters):
    """`weight` w of the ascent."""

    weight: float = 1.0


class GradientAscent(Unlearning):
    """NegGrad+."""

    name = "gradient-ascent"
    title = "the training loss ascended on the forgotten images, at their site"
    parameters_type = Parameters

    def terms(self, objective: Objective, forgotten: Side, retained: Side) -> dict[str, Tensor]:
        loss = torch.stack(list(objective.terms(forgotten.seen).values())).sum()
        return {"ascent": -self.parameters.weight * loss, **utility(objective, retained)}
