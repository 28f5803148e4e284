"""An attack on who was there, and what it says of forgetting.

Scores of how well a model knows an image are calibrated by the same federation without F under
other seeds (`common/membership.py`). F, the forgotten images, against others: of the same classes
and trained on by nobody, or, at a site that has no such images, its own that stayed, which all the
models have had. A model that never had F gets .5: each reference shows it, calibrated by the
others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from common.membership import Scores, Success, auc, calibrated, spread_of_auc, success

CLOSE = 0.03
"""Of .5: the least that a signal has to be away, and the most that forgetting may leave."""
TWO_SIDED = 1.96  # standard deviations that 95 % lie within

State = Literal["no signal", "passed", "failed", "overshot"]


@dataclass(frozen=True)
class Attack:
    """What the attack called `name` finds, calibrated: in the `original` run, in the `forgotten`
    one, and in each run `without` the data, calibrated by the others. `raw`: AUC of the original's
    and the forgotten run's scores as they are, where they are known. `noise`: what chance alone
    does to an AUC."""

    name: str
    about: str
    original: Success
    forgotten: Success
    without: tuple[Success, ...]
    raw: tuple[float, float] | None
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
        noise_of(len(inside), len(outside)),
    )


def noise_of(inside: int, outside: int) -> float:
    """How far from .5 chance alone takes an AUC of so many images, in 95 of 100 cases."""
    return TWO_SIDED * spread_of_auc(inside, outside)
