"""The names of the rules that withstand Byzantine sites, and how many sites each needs.

A Byzantine site may answer anything: by malice, by a broken disk, by a mistake (Lamport, Shostak
and Pease, TOPLAS 1982). The rules are in `server/aggregation/` and `server/aggregation/robust.py`;
whoever settles a plan checks it here.
"""

from common.config.options import Plan, Stage
from common.utils.errors import UserError

MARGIN = {
    "median": 1,
    "trimmed-mean": 1,
    "norm-clipping": 1,
    "geometric-median": 1,
    "krum": 3,
    "multi-krum": 3,
}
"""Robust aggregation -> m: against f Byzantine sites it needs the answers of 2f + m."""

ROBUST_CENTROIDS = ("robust-k-means", "robust-lloyd")
CENTROIDS_MARGIN = 3
"""As of Krum, by which the sites whose centroids count are chosen."""


def answers_needed(stage: Stage, byzantine: int) -> int:
    """Sites without whose answers a stage's rules cannot hold what they promise."""
    margins = [MARGIN[stage.aggregation]] if stage.aggregation in MARGIN else []
    if stage.centroids in ROBUST_CENTROIDS:
        margins.append(CENTROIDS_MARGIN)
    return 2 * byzantine + max(margins) if margins else 1


def check_byzantine(plan: Plan) -> None:
    """`UserError` where robust rules are asked for and no number of sites, or the other way round,
    and where the plan's rounds have too few sites for it."""
    f = plan.byzantine
    robust = [stage for stage in plan.stages if answers_needed(stage, 1) > 1]
    if f and not robust:
        raise UserError(
            f"byzantine = {f}, but no stage has a robust rule: aggregation {', '.join(MARGIN)}; "
            f"centroids {', '.join(ROBUST_CENTROIDS)}"
        )
    for stage in robust:
        if not f:
            raise UserError(
                f"stage {stage.name!r} has a robust rule: say with byzantine how many sites it is "
                "to withstand"
            )
        asked = plan.share(plan.expected_sites)
        needed = answers_needed(stage, f)
        if asked < needed:
            raise UserError(
                f"stage {stage.name!r}: against {f} Byzantine sites its rules need {needed} "
                f"answers, and a round asks {asked} sites"
            )
