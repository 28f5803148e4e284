"""An attack on who was there, and how well it does: pure functions of scores.

A score s_M(x) says how well a model M seems to know an image x. Some images are well known to every
model: what tells members is the score less what models without the data give on average,
    c_M(x) = s_M(x) - mean_r s_r(x)          r: the same federation without F, under other seeds
(calibration by reference models: Watson et al., ICLR 2022, arXiv 2111.08440; Carlini et al., IEEE
S&P 2022, whose figure is the true positive rate where few are accused wrongly). F, the forgotten
images, against others of the same classes that nobody trained on. A model that never had F gets .5:
each reference shows it, calibrated by the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

CLOSE = 0.03
"""Of .5: the least that a signal has to be away, and the most that forgetting may leave."""
ACCUSED = 0.01  # share of images taken for members wrongly, at which members are counted
TWO_SIDED = 1.96  # standard deviations that 95 % lie within

State = Literal["no signal", "passed", "failed", "overshot"]
Scores = tuple[Tensor, Tensor]
"""Of the forgotten images (n,), and of images that no model has had (m,)."""


@dataclass(frozen=True)
class Success:
    """`auc`: the chance that a forgotten image scores above one never seen, .5 by guessing; `tpr`:
    share of the forgotten that score above all but 1 % of the others, .01 by guessing."""

    auc: float
    tpr: float


@dataclass(frozen=True)
class Attack:
    """What the attack called `name` finds, calibrated: in the `original` run, in the `forgotten`
    one, and in each run `without` the data, calibrated by the others. `raw`: AUC of the original's
    and the forgotten run's scores as they are. `noise`: what chance alone does to an AUC."""

    name: str
    about: str
    original: Success
    forgotten: Success
    without: tuple[Success, ...]
    raw: tuple[float, float]
    noise: float

    @property
    def margin(self) -> float:
        """How far from .5 is no finding: `CLOSE`, or what chance does with so few images."""
        return max(CLOSE, self.noise)

    @property
    def allowed(self) -> float:
        """How far from .5 the forgotten run may be: as far as a run without the data."""
        return max(self.margin, *(abs(each.auc - 0.5) for each in self.without))

    @property
    def state(self) -> State:
        """What it says of forgetting. Nothing where it finds nobody in the original itself."""
        if abs(self.original.auc - 0.5) < self.margin:
            return "no signal"
        left = self.forgotten.auc - 0.5
        if abs(left) <= self.allowed:
            return "passed"
        return "failed" if left > 0 else "overshot"


def attack(
    name: str, about: str, original: Scores, forgotten: Scores, references: Sequence[Scores]
) -> Attack:
    """The attack with these scores; `ValueError` for fewer than two `references`."""
    if len(references) < 2:
        raise ValueError(f"{len(references)} reference runs, two are needed")
    others = [(*references[:i], *references[i + 1 :]) for i in range(len(references))]
    inside, outside = original
    return Attack(
        name,
        about,
        success(calibrated(original, references)),
        success(calibrated(forgotten, references)),
        tuple(success(calibrated(one, rest)) for one, rest in zip(references, others, strict=True)),
        (auc(*original), auc(*forgotten)),
        TWO_SIDED * spread_of_auc(len(inside), len(outside)),
    )


def calibrated(scores: Scores, references: Sequence[Scores]) -> Scores:
    """The scores less their means over the `references`."""
    inside, outside = (
        own.double() - torch.stack([reference[side].double() for reference in references]).mean(0)
        for side, own in enumerate(scores)
    )
    return inside, outside


def success(scores: Scores) -> Success:
    """AUC, and TPR at 1 % FPR."""
    return Success(auc(*scores), tpr(*scores))


def auc(inside: Tensor, outside: Tensor) -> float:
    """The chance that one of `inside` (n,) is above one of `outside` (m,), ties by half (Mann and
    Whitney, 1947)."""
    inside, outside = inside.double().contiguous(), outside.double().sort().values
    below = torch.searchsorted(outside, inside)
    upto = torch.searchsorted(outside, inside, right=True)
    return float((below + upto).double().sum() / (2 * len(inside) * len(outside)))


def tpr(inside: Tensor, outside: Tensor, accused: float = ACCUSED) -> float:
    """The share of `inside` (n,) above a threshold which at most the share `accused` of `outside`
    (m,) is above."""
    wrong = math.floor(accused * len(outside) + 1e-9)
    threshold = outside.sort(descending=True).values[wrong]
    return float((inside > threshold).double().mean())


def spread_of_auc(inside: int, outside: int) -> float:
    """The standard deviation of an AUC of so many scores that say nothing (Mann and Whitney)."""
    return math.sqrt((inside + outside + 1) / (12 * inside * outside))
