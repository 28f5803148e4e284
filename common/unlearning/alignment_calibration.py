"""Alignment Calibration: views of a forgotten image are taken apart, those of the others stay.

L = L_obj(retained) + α·NT-Xent(z_a, z_b∘π; τ) + β·mean_i cos(z_a,i, z_b,i), the last two over the
forgotten images: π is random and takes every image to another one, which is so made its positive,
while its own second view is a negative.
The paper's first term is NT-Xent; here it is the objective that trained the encoder.
Source: Wang et al., "Alignment Calibration: Machine Unlearning for Contrastive Learning under
Auditing", TMLR 2025 (arXiv 2406.03603), and the authors' code.
"""

from dataclasses import dataclass

from torch import Tensor

from common.losses.unlearning import alignment, another_as_positive, derangement
from common.objectives.base import Objective
from common.unlearning import base
from common.unlearning.base import Side, Unlearning, utility


@dataclass(frozen=True)
class Parameters(base.Parameters):
    """`positives` α, `apart` β; `temperature` τ."""

    positives: float = 1.0
    apart: float = 1.0
    temperature: float = 0.5


class AlignmentCalibration(Unlearning):
    """The alignment that training has made is undone."""

    name = "alignment-calibration"
    title = "views of the forgotten images taken apart, at their site"
    parameters_type = Parameters

    def terms(self, objective: Objective, forgotten: Side, retained: Side) -> dict[str, Tensor]:
        settings, seen = self.parameters, forgotten.seen
        other = derangement(len(seen.z_a), seen.batch.generator).to(seen.z_a.device)
        positives = another_as_positive(seen.z_a, seen.z_b, other, settings.temperature)
        return {
            "positives": settings.positives * positives,
            "alignment": settings.apart * alignment(seen.z_a, seen.z_b),
            **utility(objective, retained),
        }
