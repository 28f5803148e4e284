"""What may not be added up is refused, by name, before it has touched the sums."""

from dataclasses import replace

import numpy as np
import pytest

from common.clustering.centroids import Centroids
from common.protocol.messages import Reply
from deploy.engines.in_process import InProcessGrid
from server.conversation.inquiry import Inquiry, Participants
from server.conversation.validation import Refused
from tests.intruders.replies import (
    CLUSTERS,
    EXPECTED,
    PARTS,
    POINTS,
    SITES,
    TABLE,
    WIDTH,
    asked,
    exchange,
    good,
    state,
)

HUGE = 2**62
ALONE = Participants({"bad": 2}, SITES)


def part(kind: str, **parts: object) -> Reply:
    return replace(good(kind), **parts)  # type: ignore[arg-type]


def sums(kind: str, **changed: float) -> Reply:
    return part(kind, sums={**PARTS[kind]["sums"], **changed})


def moments(kind: str, **changed: np.ndarray) -> Reply:
    return part(kind, moments={**PARTS[kind]["moments"], **changed})


LOPSIDED = np.eye(WIDTH)
LOPSIDED[0, 1] = 9.0
INDEFINITE = np.eye(WIDTH) + 30.0 * (1 - np.eye(WIDTH))

WRONG = {
    "counts that wrap around": (
        part("train", tables={"local": np.full((2, 2), HUGE)}),
        "tables.local: 18446744073709551616 images",
    ),
    "centroids' counts that wrap around": (
        part("train", centroids=Centroids(POINTS, np.array([HUGE, HUGE]))),
        "counts: ",
    ),
    "centroids that are not of unit length": (
        part("train", centroids=Centroids(POINTS * 1e30, np.array([5, 5]))),
        "centroids: not of unit length",
    ),
    "centroids where none are asked for": (
        part("score", centroids=Centroids(POINTS, np.array([5, 5]))),
        "centroids: not asked for",
    ),
    "a table of another kind": (part("score", tables={"lloyd": TABLE}), "tables.lloyd: not asked"),
    "a table of views by other clusters": (
        part("score", tables={"views": np.ones((CLUSTERS, 3), np.int64)}),
        "tables.views: shape (2, 3) instead of (2, 2)",
    ),
    "more views than images": (
        part("score", tables={"views": np.full((CLUSTERS, CLUSTERS), 9)}),
        "tables.views: 36 images: it announced 20",
    ),
    "sums without squares": (
        part("train", vectors={"sum": np.ones(WIDTH)}),
        "vectors.squares: missing",
    ),
    "an unknown sum": (sums("train", **{"<script>": 1.0}), "sums.<script>: not asked for"),
    "a loss in a round without training": (
        sums("assess", **{"loss.loss": 1.0}),
        "sums.loss.loss: not asked for",
    ),
    "a loss that overflows in a sum": (sums("train", **{"loss.contrast": 1e308}), "losses"),
    "very many losses": (
        sums("train", **{f"loss.l{n}": 1.0 for n in range(99)}),
        "sums: more losses",
    ),
    "more images than announced": (sums("train", images=21.0), "sums.images: 21"),
    "no images": (sums("train", images=0.0), "sums.images"),
    "half an image": (sums("train", images=1.5), "sums.images: 1.5"),
    "a number of correct answers that is negative": (sums("assess", knn_correct=-1.0), "knn"),
    "more correct answers than questions": (sums("assess", knn_correct=3.0), "sums.held"),
    "a silhouette beyond one for each image": (sums("score", silhouette=-21.0), "silhouette"),
    "an inertia too many": (
        sums("lloyd", **{"inertia.99": 1.0}),
        "sums.inertia.99: not asked for",
    ),
    "a moment that is not symmetric": (moments("moments", within=LOPSIDED), "not symmetric"),
    "a negative sum of squares": (
        moments("moments", gram=np.diag([4.0, -4.0, 2.0, 10.0])),
        "a sum of squares is negative",
    ),
    "a moment from which nothing can be solved": (
        moments("moments", within=INDEFINITE),
        "negative eigenvalues",
    ),
    "a weight below 0": (
        moments("affinity", affinity=np.eye(WIDTH) - 1e-3),
        "moments.affinity: weights are not negative",
    ),
    "more landmarks than a site has images for": (
        part("landmarks", centroids=Centroids(np.eye(3, dtype=np.float32), np.full(3, 3))),
        "centroids: (3, 3) instead of at most (2, 3)",
    ),
    "seconds that are no time": (part("train", seconds={"train": -1.0}), "seconds.train"),
    "a phase with control characters": (
        part("train", seconds={"\x1b[2J": 1.0}),
        "seconds.\N{REPLACEMENT CHARACTER}[2J",
    ),
    "parameters where none are asked for": (
        part("score", groups={"encoder": np.ones(4, np.float32)}),
        "groups.encoder: not asked for",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_added_up_is_refused_and_changes_no_bit(case: str) -> None:
    wrong, why = WRONG[case]
    InProcessGrid({})
    message = Inquiry(asked(wrong.kind), ALONE, EXPECTED).messages()["bad"]
    opened = exchange(wrong.kind, message)
    before = state(opened)
    message.content = wrong.to_record()
    with pytest.raises(Refused) as refusal:
        opened._fold_one("bad", message)
    assert why in str(refusal.value)
    assert state(opened) == before


@pytest.mark.parametrize("kind", PARTS)
def test_what_is_asked_for_passes(kind: str) -> None:
    InProcessGrid({})
    message = Inquiry(asked(kind), ALONE, EXPECTED).messages()["bad"]
    opened = exchange(kind, message)
    before = state(opened)
    message.content = good(kind).to_record()
    opened._fold_one("bad", message)
    assert state(opened) != before
