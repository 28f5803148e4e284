"""k-FED's local clusters are the paper's, and no more of them than may leave the site."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from client.statistics.clusters import nearest
from client.statistics.kfed import beyond_doubt, k_fed_clusters, means, project
from common.utils.seeds import generator

pytestmark = pytest.mark.usefixtures("one_thread")


def chance(seed: int = 0) -> torch.Generator:
    return generator("cpu", seed, "test")


def around(k: int, d: int = 12, each: int = 30, noise: float = 0.1, seed: int = 0) -> Tensor:
    """Unit-length points around the first k axes."""
    spread = noise * torch.randn(k * each, d, generator=chance(seed))
    return F.normalize(torch.eye(d)[torch.arange(k).repeat_interleave(each)] + spread, dim=1)


def slowly(points: np.ndarray, nu: np.ndarray) -> np.ndarray:
    """Steps 2 and 3 of the paper's algorithm 1 from the projected centres ν, point by point."""
    k = len(nu)
    _, _, v = np.linalg.svd(points, full_matrices=False)
    projected = points @ v[:k].T @ v[:k]
    theta = []
    for r in range(k):
        sure = [
            i
            for i, x in enumerate(projected)
            if all(
                np.linalg.norm(x - nu[r]) <= np.linalg.norm(x - nu[s]) / 3
                for s in range(k)
                if s != r
            )
        ]
        theta.append(points[sure].mean(axis=0))
    centres = np.array(theta)
    for _ in range(30):
        centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
        label = [int(np.argmax(centres @ x)) for x in points]
        centres = np.array([points[np.array(label) == r].mean(axis=0) for r in range(k)])
    return centres / np.linalg.norm(centres, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_separated_clusters_are_those_of_the_algorithm_as_printed(seed: int) -> None:
    points = around(4, seed=seed)
    found = k_fed_clusters(points, 4, 1, chance(seed))
    wide = points.double().numpy()
    _, _, v = np.linalg.svd(wide, full_matrices=False)
    projected = wide @ v[:4].T @ v[:4]
    nu = np.array([projected[30 * r : 30 * r + 30].mean(axis=0) for r in range(4)])
    order = found.centroids.points[:, :4].argmax(axis=1)
    np.testing.assert_allclose(found.centroids.points, slowly(wide, nu)[order], atol=1e-5)
    assert found.centroids.counts.tolist() == [30] * 4


@pytest.mark.parametrize("shape", [(40, 9), (9, 40)])
def test_a_projection_keeps_the_distances_that_singular_vectors_keep(shape: tuple) -> None:
    points = torch.randn(shape, generator=chance())
    _, _, v = np.linalg.svd(points.double().numpy(), full_matrices=False)
    expected = points.double().numpy() @ v[:3].T
    found = project(points, 3)
    assert found.shape == (shape[0], 3)
    np.testing.assert_allclose(
        torch.cdist(found, found), torch.cdist(*2 * [torch.from_numpy(expected).float()]), atol=1e-4
    )
    assert project(points, 50).shape == (shape[0], 9)


def test_a_point_is_beyond_doubt_if_it_is_three_times_nearer_to_its_centre_than_to_any_other() -> (
    None
):
    points, centres = (
        torch.randn(200, 2, generator=chance()),
        torch.randn(4, 2, generator=chance(1)),
    )
    labels = torch.cdist(points, centres).argmin(dim=1)
    found = beyond_doubt(points, centres, labels)
    for i, x in enumerate(points):
        d = [float((x - c).norm()) for c in centres]
        own = d[int(labels[i])]
        others = [other for r, other in enumerate(d) if r != labels[i]]
        assert bool(found[i]) == all(3 * own <= other for other in others)
    assert 10 < int(found.sum()) < 150


def test_a_centre_beyond_doubt_of_nobody_keeps_its_whole_cluster() -> None:
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    points = torch.tensor([[0.0, 0.1], [1.5, 0.0], [2.5, 0.0], [2.6, 0.0]])
    sure = beyond_doubt(points, centres, torch.tensor([0, 0, 1, 1]))
    assert sure.tolist() == [True, False, True, True]


def test_a_doubtful_point_does_not_move_the_first_means() -> None:
    points = torch.tensor([[0.0, 0.0], [1.9, 0.0], [4.0, 0.0]])
    labels, sure = torch.tensor([0, 0, 1]), torch.tensor([True, False, True])
    assert means(points, labels, sure, 2).tolist() == [[0, 0], [4, 0]]


def test_clusters_are_no_more_than_distinct_points() -> None:
    points = torch.eye(3, 8).repeat_interleave(10, dim=0)
    found = k_fed_clusters(points, 7, 1, chance())
    assert found.centroids.counts.tolist() == [10, 10, 10]
    assert sorted(found.centroids.points.argmax(axis=1).tolist()) == [0, 1, 2]


def test_one_image_many_times_is_one_cluster() -> None:
    found = k_fed_clusters(torch.eye(1, 8).repeat(12, 1), 4, 1, chance())
    assert found.centroids.counts.tolist() == [12]
    np.testing.assert_allclose(found.centroids.points, np.eye(1, 8), atol=1e-6)


def test_no_cluster_is_smaller_than_min_count() -> None:
    points = torch.cat([around(2), around(5)[90:93]])  # three images of another kind
    found = k_fed_clusters(points, 3, 5, chance())
    assert len(found.centroids.counts) == 2
    assert found.centroids.counts.sum() == 63 and found.centroids.counts.min() >= 5
    assert (
        found.labels.tolist() == nearest(points, torch.from_numpy(found.centroids.points)).tolist()
    )


def test_a_site_with_fewer_images_than_min_count_sends_nothing() -> None:
    found = k_fed_clusters(around(2, each=2), 2, 5, chance())
    assert found.centroids.points.shape == (0, 12)
    assert found.labels.shape == (4,)


def test_a_site_with_few_images_asks_for_few_clusters() -> None:
    found = k_fed_clusters(around(2, each=6), 8, 5, chance())
    assert sorted(found.centroids.counts.tolist()) == [6, 6]


def test_the_same_generator_gives_the_same_bits_and_centres_have_unit_length() -> None:
    points = around(5, noise=0.6)
    one, two = (k_fed_clusters(points, 5, 2, chance(7)) for _ in range(2))
    assert one.centroids.points.tobytes() == two.centroids.points.tobytes()
    np.testing.assert_allclose(np.linalg.norm(one.centroids.points, axis=1), 1, atol=1e-6)
