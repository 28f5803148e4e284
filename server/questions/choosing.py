"""How many clusters? A finished run's images are clustered anew by each number of a range.

Two clusterings of each size, from other starts, take Lloyd's steps side by side in the same
exchanges; then one exchange weighs them (`server/questions/weighing.py`). The starts are k-means of
the centres of small clusters that the sites send. Nothing else leaves a site but sums.
"""

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment

from common.clustering.centroids import Centroids
from common.record.later import Candidate, ChoiceEvent
from common.utils.errors import UserError
from server.clustering import lloyd
from server.clustering.rules import merge_centroids
from server.conversation.asking import Question
from server.conversation.inquiry import Inquiry, account
from server.measurements import Measurements
from server.questions.asked import Asked
from server.questions.weighing import beyond_chance, merge_cost, spread, suggest

SMALL = 2  # clusters of a site's own for each of the largest number
RESTARTS = 4  # of the k-means that a clustering starts from
STEPS = 10


def choose(asked: Asked) -> None:
    """Weigh each number of clusters, say which is suggested, and end with the one that is to be
    taken, if any."""
    what = asked.follow_up
    assessed = asked.assess(SMALL * what.high)
    numbers = _numbers(asked, assessed)
    starts = [_start(asked, assessed, k, twin) for k in numbers for twin in (0, 1)]
    found, sizes = asked.refine(starts, STEPS)
    found = _matched(found, sizes)
    question = Question("weigh", asked.state.round, found.sent(), sets=sizes)
    weighed = asked.ask(question)
    candidates = tuple(_candidates(found, sizes, weighed.measured))
    best, doubt = suggest(candidates)
    event = ChoiceEvent(
        round=asked.state.round,
        candidates=candidates,
        suggested=best,
        doubt=doubt,
        stage=asked.order.closed if what.take else None,
        **account(weighed, asked.costs[:-1]),
    )
    asked.strategy.folder.log(event)
    if what.take:
        asked.costs.clear()
        asked.end_with(_taken(found, sizes, what.take), f"{what.take} clusters", assessed)


def _numbers(asked: Asked, assessed: Inquiry) -> list[int]:
    """Those of the range that the sites' own clusters are enough for."""
    what = asked.follow_up
    own = sum(len(c.counts) for _, c in assessed.measured.centroids)
    high = min(what.high, own)
    if high < max(what.low, 2):
        raise UserError(f"the sites tell of {own} small clusters of min-count images: too few")
    if high < what.high:
        asked.strategy.warn(
            f"up to {high} clusters are tried, not {what.high}: the sites tell of {own} small "
            "clusters of min-count images",
            asked.state.round,
        )
    if what.take and not what.low <= what.take <= high:
        raise UserError(f"{what.take} clusters are not in the range that is tried")
    return list(range(max(what.low, 2), high + 1))


def _start(asked: Asked, assessed: Inquiry, k: int, twin: int) -> Centroids:
    seed = asked.seed("start", k, twin)
    return merge_centroids(assessed.measured.centroids, None, k, seed, RESTARTS).centroids


def _rows(sizes: tuple[int, ...], number: int) -> slice:
    start = sum(sizes[:number])
    return slice(start, start + sizes[number])


def _matched(found: lloyd.Clustering, sizes: tuple[int, ...]) -> lloyd.Clustering:
    """The same, each second clustering in the order in which it fits its twin best."""
    order = np.arange(len(found.counts))
    for first in range(0, len(sizes), 2):
        one, other = _rows(sizes, first), _rows(sizes, first + 1)
        _, columns = linear_sum_assignment(found.points[one] @ found.points[other].T, maximize=True)
        order[other] = order[other][columns]
    return lloyd.Clustering(
        found.points[order], found.sums[order], found.counts[order], found.inertia
    )


def _best(found: lloyd.Clustering, first: int) -> int:
    return first + int(found.inertia[first + 1] < found.inertia[first])


def _candidates(
    found: lloyd.Clustering, sizes: tuple[int, ...], weighed: Measurements
) -> Iterator[Candidate]:
    images = weighed.totals.number("weighed") or 1.0

    def share(name: str, number: int) -> float:
        return (weighed.totals.number(f"{name}.{number}") or 0.0) / images

    for first in range(0, len(sizes), 2):
        number = _best(found, first)
        rows, twin = _rows(sizes, number), _rows(sizes, 2 * first + 1 - number)
        sums, counts = found.sums[rows], found.counts[rows]
        inside, whole = spread(sums, counts)
        yield Candidate(
            clusters=sizes[first],
            silhouette=share("silhouette", number),
            views=beyond_chance(share("views", number), counts, counts),
            restarts=beyond_chance(share("twins", first), counts, found.counts[twin]),
            merge_cost=merge_cost(sums, counts) / whole if whole > 0 else 0.0,
            spread=inside / whole if whole > 0 else 0.0,
        )


def _taken(found: lloyd.Clustering, sizes: tuple[int, ...], clusters: int) -> Centroids:
    """The better clustering of that size, the largest cluster first."""
    rows = _rows(sizes, _best(found, 2 * sorted(set(sizes)).index(clusters)))
    counts = np.rint(found.counts[rows]).astype(np.int64)
    order = np.argsort(-counts, kind="stable")
    return Centroids(found.points[rows][order], counts[order])
