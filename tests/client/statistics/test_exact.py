"""Sums of kept features: the same bits for any spread of the images."""

import numpy as np
import pytest
import torch
from torch import Tensor

from client.features import STEP
from client.statistics.exact import view_moments

CPU = torch.device("cpu")
WIDTH = 30


def pairs(count: int) -> tuple[Tensor, Tensor]:
    """Whole numbers as features have them, the largest ones too."""
    chance = torch.Generator().manual_seed(0)
    a, b = torch.randint(-16384, 16385, (2, count, WIDTH), generator=chance).float()
    a[0], b[0] = 16384, -16384
    return a, b


def sums(a: Tensor, b: Tensor, chunk: int = 100) -> tuple[np.ndarray, np.ndarray]:
    return view_moments(zip(a.split(chunk), b.split(chunk), strict=True), WIDTH, CPU)


def test_they_are_those_of_whole_numbers_without_end() -> None:
    a, b = pairs(50)
    gram, within = sums(a, b)
    x, y = (np.array([*part.long().tolist()], object) for part in (a, b))
    unit = 2**14
    ones = [np.concatenate([part, np.full((50, 1), unit, object)], axis=1) for part in (x, y)]
    wanted = sum(part.T @ part for part in ones) / (2 * unit**2)
    assert (gram == wanted.astype(np.float64)).all()
    assert (within == ((x - y).T @ (x - y) / unit**2).astype(np.float64)).all()


@pytest.mark.parametrize("sizes", [[500, 500], [1, 998, 1], [333, 333, 334]])
def test_parts_in_any_order_add_up_to_the_bits_of_the_whole(sizes: list[int]) -> None:
    a, b = pairs(1000)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(1))
    whole = sums(a, b)
    parts = [sums(a[some], b[some], chunk=64) for some in order.split(sizes)]
    for number in (0, 1):
        assert (sum(part[number] for part in parts) == whole[number]).all()


def test_the_last_entry_counts_the_images_and_the_column_beside_it_adds_them_up() -> None:
    a, b = pairs(77)
    gram, _ = sums(a, b)
    assert gram[-1, -1] == 77
    assert (gram[-1, :-1] == ((a + b).double().sum(0) * STEP / 2).numpy()).all()
