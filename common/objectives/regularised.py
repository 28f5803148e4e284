"""A contrastive regulariser on any non-contrastive objective: L = L_NC + λ·L_C.

L_C = ½[NCE(z_a; t_b) + NCE(z_b; t_a)] on the same four representations, so it costs one matrix
product a batch. λ is the stage's option `contrastive-weight`.
Source: Miao and Koyuncu, IEEE JSTSP 18(6), 2024 (the claim that a contrastive regulariser helps).
"""

from torch import Tensor, nn

from common.objectives.base import Objective, Representations
from common.objectives.nt_xent import symmetric_info_nce

TEMPERATURE = 0.2  # as in `momentum-contrast`


class Regularised(Objective):
    """`inner` with λ times the contrastive loss added; everything else is `inner`'s."""

    def __init__(self, inner: Objective, weight: float) -> None:
        super().__init__()
        self.inner = inner
        self.encoder = inner.encoder
        self.projector = inner.projector
        self.weight = weight

    def represent(self, a: Tensor, b: Tensor) -> Representations:
        return self.inner.represent(a, b)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        contrast = symmetric_info_nce(seen.z_a, seen.z_b, seen.t_a, seen.t_b, TEMPERATURE)
        return {**self.inner.terms(seen), "regulariser": self.weight * contrast}

    def after_step(self, progress: float) -> None:
        self.inner.after_step(progress)

    def shared(self) -> dict[str, nn.Module]:
        return self.inner.shared()

    def local(self) -> dict[str, nn.Module]:
        return self.inner.local()

    def restart_local(self) -> None:
        self.inner.restart_local()

    def assignments(self, h: Tensor) -> Tensor | None:
        return self.inner.assignments(h)
