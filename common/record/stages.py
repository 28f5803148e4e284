"""What a stage did to the one before it, in words."""

from collections.abc import Sequence

from common.record.metrics import FIGURES
from common.record.reader import RunRecord
from common.record.schema import StageEvent

JUDGED = ("acc", "nmi", "ari", "knn", "linear", "agreement")
"""Figures of which two stages' can be compared: other figures depend on the space that a stage
clusters in."""
LEAST = 0.01  # a smaller step says nothing


def worse(record: RunRecord) -> tuple[str, ...]:
    """A sentence for each stage after which a figure was lower than before it, with what was higher
    then; the figures that need no labels where there are no others."""
    told = []
    for before, now in zip(record.stages, record.stages[1:], strict=False):
        both = [k for k in JUDGED if k in before.figures and k in now.figures]
        change = {k: now.figures[k] - before.figures[k] for k in both}
        lower = [k for k in both if change[k] <= -LEAST]
        if not lower:
            continue
        higher = [k for k in both if change[k] >= LEAST]
        text = f"Stage {now.stage + 1}, {now.stage_name}, lowered {_told(lower, before, now)}"
        text += f"; it raised {_told(higher, before, now)}" if higher else ""
        told.append(f"{text}.")
    return tuple(told)


def _told(keys: Sequence[str], before: StageEvent, now: StageEvent) -> str:
    return ", ".join(
        f"{FIGURES[k].title} {before.figures[k]:.3f} \N{RIGHTWARDS ARROW} {now.figures[k]:.3f}"
        for k in keys
    )
