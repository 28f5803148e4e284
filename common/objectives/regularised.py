"""A contrastive regulariser on any non-contrastive objective: L = L_NC + λ·L_C.

L_C = ½[NCE(z_a; t_b) + NCE(z_b; t_a)] on the same four representations, so it costs one matrix
product a batch. λ is the stage's option `contrastive-weight`.
Shared and local: what the objective inside shares and keeps.
Source: Miao and Koyuncu, IEEE JSTSP 18(6), 2024 (the claim that a contrastive regulariser helps).
"""

from torch import Tensor

from common.losses.contrastive import symmetric_info_nce
from common.objectives.base import Objective, Representations
from common.objectives.wrapper import Wrapper

TEMPERATURE = 0.2  # as in `momentum-contrast`


class Regularised(Wrapper):
    """`inner` with λ times the contrastive loss added; everything else is `inner`'s."""

    def __init__(self, inner: Objective, weight: float) -> None:
        super().__init__(inner)
        self.weight = weight

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        contrast = symmetric_info_nce(seen.z_a, seen.z_b, seen.t_a, seen.t_b, TEMPERATURE)
        return {**self.inner.terms(seen), "regulariser": self.weight * contrast}
