"""What is concluded of clusterings from sums is what points say."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from common.clustering.centroids import unit
from common.record.later import Candidate
from server.questions.weighing import beyond_chance, merge_cost, spread, suggest

RNG = np.random.default_rng(0)
POINTS = unit(RNG.normal(size=(60, 5))).astype(np.float64)
LABELS = RNG.integers(0, 4, 60)
HOT = np.eye(4)[LABELS]
SUMS, COUNTS = HOT.T @ POINTS, HOT.sum(0)


def candidate(clusters: int, silhouette: float = 0.5, stability: float = 0.9) -> Candidate:
    return Candidate(
        clusters=clusters,
        silhouette=silhouette,
        views=stability,
        restarts=0.99,
        merge_cost=0.1,
        spread=0.5,
    )


def scatter(points: np.ndarray) -> float:
    return float(np.square(points - points.mean(0)).sum())


def test_agreement_beyond_chance_is_cohens_kappa() -> None:
    other = np.where(RNG.random(60) < 0.7, LABELS, RNG.integers(0, 4, 60))
    share = float((other == LABELS).mean())
    found = beyond_chance(share, COUNTS, np.bincount(other, minlength=4))
    assert found == pytest.approx(cohen_kappa_score(LABELS, other))
    assert beyond_chance(1.0, np.array([60]), np.array([60])) == 0


def test_spread_is_that_of_the_points() -> None:
    inside, whole = spread(SUMS, COUNTS)
    assert inside == pytest.approx(sum(scatter(POINTS[k == LABELS]) for k in range(4)))
    assert whole == pytest.approx(scatter(POINTS))


def test_merge_cost_is_what_the_cheapest_joining_adds() -> None:
    costs = []
    alone = [POINTS[k == LABELS] for k in range(4)]
    for a in range(4):
        for b in range(a):
            both = np.concatenate([alone[a], alone[b]])
            costs.append(scatter(both) - scatter(alone[a]) - scatter(alone[b]))
    assert merge_cost(SUMS, COUNTS) == pytest.approx(min(costs))
    assert merge_cost(SUMS[:1], COUNTS[:1]) == 0


def test_of_those_that_do_nearly_as_well_the_smallest_is_suggested_and_the_others_are_named() -> (
    None
):
    tried = [candidate(2, 0.1), candidate(3, 0.49), candidate(4, 0.5), candidate(5, 0.2)]
    assert suggest(tried) == (3, "4 does as well")
    assert suggest([candidate(2, 0.1), candidate(3), candidate(4, 0.1)])[1].startswith("clearly")


@pytest.mark.parametrize(
    ("tried", "doubt"),
    [
        ([candidate(2), candidate(3, 0.1)], "at the end of the range"),
        ([candidate(2)], "no other number was tried"),
        ([candidate(2, 0.01), candidate(3, 0.05), candidate(4, 0.01)], "hardly stand apart"),
        ([candidate(2, 0.1), candidate(3, 0.5, 0.3), candidate(4, 0.1)], "other starts"),
    ],
)
def test_doubts_are_said(tried: list[Candidate], doubt: str) -> None:
    assert doubt in suggest(tried)[1]
