"""Landmarks from sums: how many, of how many images, and that a spread changes none of them."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from client.statistics.exact import sums_by_centre
from common.clustering.centroids import Centroids
from common.models.whole import whole
from common.utils.errors import UserError
from server.clustering.splitting import Step, split_landmarks

CHANCE = torch.Generator().manual_seed(0)
MIDDLES = torch.randn(12, 16, generator=CHANCE)
POINTS = whole(MIDDLES.repeat(50, 1) + 0.3 * torch.randn(600, 16, generator=CHANCE)).float()


def over(sites: Sequence[Tensor], min_count: int = 1, seen: list[Centroids] | None = None) -> Step:
    def step(centres: Centroids) -> tuple[np.ndarray, np.ndarray]:
        if seen is not None:
            seen.append(centres)
        around = torch.from_numpy(centres.points)
        parts = [sums_by_centre(points, around, min_count) for points in sites]
        return sum(part[0] for part in parts), sum(part[1] for part in parts)

    return step


def split(step: Step, count: int = 30, least: int = 5, seed: int = 0) -> np.ndarray:
    return split_landmarks(step, 16, lambda images: count, least, seed)


def spreads() -> dict[str, Sequence[Tensor]]:
    order = torch.randperm(600, generator=CHANCE)
    by_middle = [POINTS[number::12] for number in range(12)]
    return {"one site": [POINTS], "alike": POINTS[order].split(61), "one kind each": by_middle}


def test_any_spread_of_the_images_gives_the_same_bits() -> None:
    found = {split(over(sites)).tobytes() for sites in spreads().values()}
    assert len(found) == 1


def test_another_seed_gives_others() -> None:
    assert not np.array_equal(split(over([POINTS])), split(over([POINTS]), seed=1))


def test_there_are_as_many_as_are_wanted_near_the_images() -> None:
    found = split(over([POINTS]))
    assert 25 <= len(found) <= 30
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    near = (POINTS.double().numpy() @ found.T).max(axis=1)
    middles = whole(MIDDLES).numpy()
    assert near.mean() > (POINTS.double().numpy() @ middles.T).max(axis=1).mean()


@pytest.mark.parametrize("least", [5, 15])
def test_no_site_sees_a_centre_of_fewer_images(least: int) -> None:
    """The last ones sent are the landmarks of the step before; halves of one that split aside."""
    seen: list[Centroids] = []
    step, told = over([POINTS], seen=seen), []

    def counted(centres: Centroids) -> tuple[np.ndarray, np.ndarray]:
        sums, counts = step(centres)
        told.append((len(centres.counts), counts))
        return sums, counts

    found = split(counted, least=least)
    assert len(found) == (told[-1][1] >= least).sum()
    assert told[-1][0] == (told[-2][1] >= least).sum()


def test_a_site_that_has_too_few_of_a_centre_is_not_in_it() -> None:
    alone, others = POINTS[:3], POINTS[3:]
    found = split(over([alone, others], min_count=5))
    assert found.tobytes() == split(over([others], min_count=5)).tobytes()


def test_it_takes_an_exchange_for_each_doubling_and_few_more() -> None:
    seen: list[Centroids] = []
    split(over([POINTS], seen=seen), count=32)
    assert 1 + 5 + 2 <= len(seen) <= 1 + 5 + 2 + 2


@pytest.mark.parametrize(
    ("sites", "min_count", "count", "landmarks"),
    [([POINTS[:20]], 1, 1, 1), ([POINTS[:9]], 1, 4, 1), ([POINTS[:12]], 5, 100, 2)],
)
def test_few_images_have_few_landmarks(
    sites: Sequence[Tensor], min_count: int, count: int, landmarks: int
) -> None:
    assert 1 <= len(split(over(sites, min_count), count)) <= landmarks


def test_of_too_few_images_there_are_none() -> None:
    few: Callable[[], np.ndarray] = lambda: split(over([POINTS[:3], POINTS[3:6]], 5))  # noqa: E731
    with pytest.raises(UserError, match="no site has enough images"):
        few()


def test_images_that_are_all_alike_have_one_landmark() -> None:
    assert len(split(over([POINTS[:1].repeat(40, 1)]))) == 1
