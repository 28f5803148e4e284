"""How well scores tell who was there: pure functions.

A score s_M(x) says how well a model M seems to know an image x. Some images are well known to every
model: what tells members is the score less what models without them give on average,
    c_M(x) = s_M(x) - mean_r s_r(x)
(calibration by reference models: Watson et al., ICLR 2022, arXiv 2111.08440; Carlini et al., IEEE
S&P 2022, whose figure is the true positive rate where few are accused wrongly).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ACCUSED = 0.01  # share of images taken for members wrongly, at which members are counted
FEW = 20  # images on either side, below which no attack can be judged

Scores = tuple[Tensor, Tensor]
"""Of the images that are looked for (n,), and of others (m,)."""


@dataclass(frozen=True)
class Success:
    """`auc`: the chance that an image that is looked for scores above another one, .5 by guessing;
    `tpr`: share of them that score above all but 1 % of the others, .01 by guessing."""

    auc: float
    tpr: float


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
