"""Contrastive Quant: two views of an image attract, also through networks of two precisions.

At each step two bit-widths q₁, q₂ are drawn; f_q is the network with weights and activations
quantised to q bits (`common/models/quantisation.py`). A variant is a list of pairs of (view,
precision), and the loss is the sum of a contrastive loss ℓ over its pairs:

    CQ-A: ℓ(f_q1(a), f_q2(b))
    CQ-B: ℓ(f_q1(a), f_q1(b)) + ℓ(f_q2(a), f_q2(b))
    CQ-C: CQ-B + ℓ(f_q1(a), f_q2(a)) + ℓ(f_q1(b), f_q2(b))

Over SimCLR ℓ is NT-Xent. Over BYOL, for a pair (x, y), ℓ = ½[(2 - 2 cos(p(z_x), sg t_y)) +
(2 - 2 cos(p(z_y), sg t_x))]: encoder, projector and predictor at the precision of the one, the
target network at the precision of the other.

In full precision stay the encoder's first convolution and the last linear layer of each head; all
else is quantised, and nothing outside training is. Each (view, precision) is forwarded once. Views
of one precision share a forward, hence BatchNorm's statistics and the ranges of the activations, as
the two views of the objective inside do; in CQ-A each view is alone at its precision, and so has
its own. BatchNorm's running statistics are one set for all precisions.
What objectives around this one see of a view is its first entry in the list of pairs: it costs no
further forward. Shared and local: as in the objective inside.
Source: Fu et al., "Contrastive Quant: Quantization Makes Stronger Contrastive Learning", DAC 2022
(doi 10.1145/3489517.3530419).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from common.losses.cosine import prediction_error
from common.models.encoders import Encoder
from common.models.quantisation import (
    FULL_PRECISION,
    draw_levels,
    first_convolution,
    forward_quantised,
    last_linear,
)
from common.objectives.base import Batch, Objective, Representations
from common.objectives.byol import BYOL
from common.objectives.regularised import Regularised
from common.objectives.simclr import SimCLR
from common.objectives.wrapper import Wrapper
from common.utils.errors import UserError, unknown


class Seen(NamedTuple):
    """View "a" or "b", at the first or the second of a step's two precisions (0 or 1)."""

    view: str
    precision: int


A1, A2, B1, B2 = Seen("a", 0), Seen("a", 1), Seen("b", 0), Seen("b", 1)

VARIANTS: dict[str, tuple[tuple[Seen, Seen], ...]] = {
    "A": ((A1, B2),),
    "B": ((A1, B1), (A2, B2)),
    "C": ((A1, B1), (A2, B2), (A1, A2), (B1, B2)),
}


@dataclass(frozen=True)
class Parameters:
    """`variant`: A, B or C; `first`: the objective inside, simclr or byol; `least_bits`,
    `most_bits`: the range that the two bit-widths of a step are drawn from (6..16 is the middle one
    of the ranges that the paper's authors use: 4..16, 6..16, 8..16)."""

    variant: str = "C"
    first: str = "simclr"
    least_bits: int = 6
    most_bits: int = 16


class Passed(NamedTuple):
    """One (view, precision) through the networks: encoder output h (N, d), projection z (N, p),
    target t (N, p) without gradient, prediction p (N, p); p is z where there is no predictor."""

    h: Tensor
    z: Tensor
    t: Tensor
    p: Tensor


class AtPrecisions(Representations):
    """The representations of a batch, and those of each (view, precision) that was forwarded."""

    passed: dict[Seen, Passed]


class ContrastiveQuant(Wrapper):
    """The loss of `inner` summed over a variant's pairs, for an objective without a predictor."""

    def __init__(self, settings: Parameters, inner: Objective) -> None:
        super().__init__(inner)
        if settings.variant not in VARIANTS:
            raise unknown("variant of contrastive-quant", settings.variant, VARIANTS)
        least, most = settings.least_bits, settings.most_bits
        if not 1 <= least <= most <= FULL_PRECISION:
            raise UserError(
                f"parameters: least-bits and most-bits must be 1 <= least <= most <= "
                f"{FULL_PRECISION} (got {least} and {most})"
            )
        self.settings = settings
        self.pairs = VARIANTS[settings.variant]

    def represent(self, batch: Batch) -> AtPrecisions:
        levels = draw_levels(self.settings.least_bits, self.settings.most_bits, batch.generator)
        needed = sorted({seen for pair in self.pairs for seen in pair})
        views = {"a": batch.a, "b": batch.b}
        passed: dict[Seen, Passed] = {}
        for precision, level in enumerate(levels.unbind()):
            here = [seen for seen in needed if seen.precision == precision]
            found = self._pass([views[seen.view] for seen in here], level)
            passed |= zip(here, found, strict=True)
        a, b = (passed[next(s for s in needed if s.view == view)] for view in views)
        together = AtPrecisions(batch, a.h, b.h, a.z, b.z, a.t, b.t)
        together.passed = passed
        return together

    def _pass(self, views: list[Tensor], levels: Tensor) -> list[Passed]:
        """All `views` (N, C, H, W) in one forward at a precision."""
        images, parts = torch.cat(views), len(views)
        h = forward_quantised(self.encoder, images, levels, first_convolution(self.encoder))
        z = through_head(self.projector, h, levels)
        t = self._targets_at(images, z, levels)
        # One at a time, as the objective inside calls its predictor: BatchNorm makes it differ.
        p = [self._predict_at(part, levels) for part in z.chunk(parts)]
        return [
            Passed(*part)
            for part in zip(h.chunk(parts), z.chunk(parts), t.chunk(parts), p, strict=True)
        ]

    def _targets_at(self, images: Tensor, z: Tensor, levels: Tensor) -> Tensor:
        return z.detach()

    def _predict_at(self, z: Tensor, levels: Tensor) -> Tensor:
        return z

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        """`views`: the pairs of two views; `precisions`: the pairs of one view at both."""
        assert isinstance(seen, AtPrecisions)
        losses: dict[str, list[Tensor]] = {}
        for x, y in self.pairs:
            name = "precisions" if x.view == y.view else "views"
            loss = self._loss(seen.batch, seen.passed[x], seen.passed[y])
            losses.setdefault(name, []).append(loss)
        return {name: torch.stack(parts).sum() for name, parts in losses.items()}

    def _loss(self, batch: Batch, x: Passed, y: Passed) -> Tensor:
        terms = self.inner.terms(Representations(batch, x.h, y.h, x.z, y.z, x.t, y.t))
        return torch.stack(list(terms.values())).sum()


class ContrastiveQuantBYOL(ContrastiveQuant):
    """The same over BYOL, whose predictor and target are quantised, too."""

    inner: BYOL

    @torch.no_grad()
    def _targets_at(self, images: Tensor, z: Tensor, levels: Tensor) -> Tensor:
        encoder, projector = self.inner.target.encoder, self.inner.target.projector
        h = forward_quantised(encoder, images, levels, first_convolution(encoder))
        return through_head(projector, h, levels)

    def _predict_at(self, z: Tensor, levels: Tensor) -> Tensor:
        return through_head(self.inner.predictor, z, levels)

    def _loss(self, batch: Batch, x: Passed, y: Passed) -> Tensor:
        return 0.5 * (prediction_error(x.p, y.t) + prediction_error(y.p, x.t))


def through_head(head: nn.Module, x: Tensor, levels: Tensor) -> Tensor:
    """A projector or predictor at a precision, its last linear layer in full precision."""
    return forward_quantised(head, x, levels, last_linear(head))


OVER: dict[type[Any], Callable[[Parameters, Any], ContrastiveQuant]] = {
    SimCLR: ContrastiveQuant,
    BYOL: ContrastiveQuantBYOL,
}


def contrastive_quant(
    encoder: Encoder, settings: Parameters, clusters: int, first: Objective
) -> Wrapper:
    """Contrastive Quant over `first`. A regulariser on `first` becomes one on the whole: it needs
    one pair of views, not every pair of the list."""
    if isinstance(first, Regularised):
        whole = contrastive_quant(encoder, settings, clusters, first.inner)
        return Regularised(whole, first.weight)
    if type(first) not in OVER:
        raise unknown("first of contrastive-quant", settings.first, ("simclr", "byol"))
    return OVER[type(first)](settings, first)
