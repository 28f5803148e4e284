"""What landmarks say of how sites differ."""

import numpy as np

from common.clustering.centroids import Centroids, unit
from server.clustering.landmarks import near_their_own


def site(points: np.ndarray) -> Centroids:
    return Centroids(unit(points), np.full(len(points), 20))


def share(*sites: np.ndarray) -> tuple[float, float]:
    named = [(f"site-{i}", site(points)) for i, points in enumerate(sites)]
    found = near_their_own(named)
    assert all(np.array_equal(near_their_own(named[::-1])[k], v) for k, v in found.items())
    return float(found["own"].item()), float(found["chance"].item())


def test_sites_of_different_images_have_their_own_neighbours() -> None:
    chance = np.random.default_rng(0)
    centres = np.eye(4, 16) * 10
    own, by_chance = share(*(c + chance.normal(size=(12, 16)) for c in centres))
    assert own > 0.9 and 0.2 < by_chance < 0.25


def test_sites_of_like_images_have_not() -> None:
    chance = np.random.default_rng(0)
    own, by_chance = share(*(chance.normal(size=(40, 16)) for _ in range(4)))
    assert abs(own - by_chance) < 0.1


def test_one_landmark_says_nothing() -> None:
    own, by_chance = share(np.ones((1, 4)))
    assert own <= by_chance
