"""Federated k-means is pooled k-means, however the images are spread over the sites."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from client.statistics.clusters import local_clusters
from client.statistics.measure import lloyd_sums
from common.clustering.centroids import Centroids, unit
from common.clustering.kmeans import kmeans
from common.protocol.messages import Reply
from common.utils.seeds import generator
from server.clustering import lloyd
from server.clustering.lloyd import Clustering
from server.measurements import Measurements

K, D, N = 5, 6, 240


pytestmark = pytest.mark.usefixtures("one_thread")


def images(seed: int = 0) -> Tensor:
    """Unit-length points around K directions, sorted by direction."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(K, D))
    noisy = np.repeat(middles, N // K, axis=0) + 0.8 * rng.normal(size=(N, D))
    return torch.from_numpy(unit(noisy))


PARTITIONS = {
    "one site": lambda points: [points],
    "one class a site": lambda points: list(points.split(N // K)),
    "unequal": lambda points: list(points.split([3, 200, 30, 7])),
    "dealt": lambda points: [points[i::4] for i in range(4)],
}


def measured(
    sites: Sequence[Tensor], now: Clustering, min_count: int = 1, order: Sequence[int] = ()
) -> Measurements:
    """What the server folds when `sites` answer, in `order` of arrival."""
    k = len(now.counts) // len(now.inertia)
    found = Measurements(k, classes=0, images=sum(map(len, sites)))
    for index in order or range(len(sites)):
        sets = torch.from_numpy(now.sent().points).split(k)
        steps = [lloyd_sums(sites[index], centres, min_count) for centres in sets]
        found.fold(
            Reply(
                kind="lloyd",
                site=f"site-{index}",
                round=0,
                examples=len(sites[index]),
                moments={"sums": np.concatenate([s.sums for s in steps])},
                tables={"lloyd": np.concatenate([s.counts for s in steps])[:, None]},
                sums={f"inertia.{number}": s.inertia for number, s in enumerate(steps)},
            )
        )
    return found


def begin(sites: Sequence[Tensor], seed: int = 0) -> Clustering:
    local = [
        (f"site-{i}", local_clusters(points, K, 1, generator("cpu", seed, i)).centroids)
        for i, points in enumerate(sites)
    ]
    rng = np.random.default_rng(seed)
    first = Centroids(unit(rng.normal(size=(K, D))), np.full(K, N // K))
    return lloyd.starts(local, first, K, seed)


def only(points: np.ndarray) -> Clustering:
    """One set of centroids under way, with nothing behind it."""
    return Clustering(points, np.zeros((K, D)), np.zeros(K), np.zeros(1))


def pooled_step(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """One step of spherical k-means over all images, image by image."""
    sums, counts, inertia = np.zeros((K, D)), np.zeros(K, int), 0.0
    for x in points.astype(np.float64):
        cosines = [float(x @ c) for c in centres.astype(np.float64)]
        best = int(np.argmax(cosines))
        sums[best] += x
        counts[best] += 1
        inertia += 1 - cosines[best]
    moved = [
        s / np.linalg.norm(s) if n else c for s, n, c in zip(sums, counts, centres, strict=True)
    ]
    return np.array(moved), counts, inertia


@pytest.mark.parametrize("partition", PARTITIONS)
def test_every_step_is_the_pooled_algorithms_whatever_the_partition(partition: str) -> None:
    points = images()
    sites = PARTITIONS[partition](points)
    now = only(unit(np.random.default_rng(1).normal(size=(K, D))))
    pooled = now.points
    for _ in range(8):
        now = lloyd.step(now, measured(sites, now), share=1.0)
        pooled, counts, inertia = pooled_step(points.numpy(), pooled)
        np.testing.assert_allclose(now.points, pooled, atol=1e-6)
        assert now.counts.tolist() == counts.tolist()
        assert now.inertia[0] == pytest.approx(inertia, rel=1e-6)


def test_with_one_site_it_ends_where_that_sites_own_k_means_ends() -> None:
    points = images(3)
    start = points[:: N // K].numpy()
    now = only(start)
    for _ in range(lloyd.STEPS):
        before, now = now, lloyd.step(now, measured([points], now), share=1.0)
        if lloyd.has_settled(before, now):
            break
    own = kmeans(
        points, K, init=torch.from_numpy(start), spherical=True, generator=generator("cpu", 0)
    )
    np.testing.assert_allclose(now.points, own.centroids.numpy(), atol=1e-5)
    assert now.counts.tolist() == own.counts.tolist()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_inertia_of_no_set_ever_grows(seed: int) -> None:
    sites = PARTITIONS["unequal"](images(seed))
    now = begin(sites, seed)
    last = np.full(lloyd.MOST_SETS, np.inf)
    for _ in range(6):
        now = lloyd.step(now, measured(sites, now), share=1.0)
        assert (now.inertia <= last + 1e-5).all()
        last = now.inertia


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(4)), st.sampled_from([1.0, 0.6]))
def test_the_order_of_arrival_changes_no_bit(seed: int, order: list[int], share: float) -> None:
    sites = PARTITIONS["unequal"](images(seed))
    now = begin(sites, seed)
    one, two = (lloyd.step(now, measured(sites, now, 1, o), share) for o in ((), order))
    for name in ("points", "sums", "counts", "inertia"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()


def test_a_centroid_without_images_stays() -> None:
    points = images().abs()
    centres = np.abs(unit(np.random.default_rng(1).normal(size=(K, D))))
    centres[3] *= -1
    moved = lloyd.step(only(centres), measured([points], only(centres)), share=1.0)
    assert moved.counts[3] == 0
    assert moved.points[3].tobytes() == centres[3].tobytes()
    assert not np.allclose(moved.points[0], centres[0])


def test_a_site_leaves_out_clusters_below_min_count() -> None:
    axes = torch.eye(K, D)
    few, many = axes[[0] * 4 + [1] * 9], axes[[0] * 5 + [2] * 2]
    now = only(axes.numpy())
    counts = lloyd.step(now, measured([few, many], now, min_count=5), share=1.0).counts
    assert counts.tolist() == [5, 9, 0, 0, 0]


def test_a_sites_sums_are_those_of_its_images_one_by_one() -> None:
    points, centres = images(2), unit(np.random.default_rng(2).normal(size=(K, D)))
    found = lloyd_sums(points, torch.from_numpy(centres), 1)
    label = (points.numpy() @ centres.T).argmax(axis=1)
    for c in range(K):
        np.testing.assert_allclose(found.sums[c], points.numpy()[label == c].sum(0), atol=1e-4)
    assert found.counts.tolist() == np.bincount(label, minlength=K).tolist()
    assert found.inertia == pytest.approx(sum(1 - (points.numpy() @ centres.T).max(1)), rel=1e-5)


# With a part of the sites in each exchange.


def test_what_was_not_asked_counts_as_it_was_last_seen_and_fades() -> None:
    points = images()
    now = begin([points])
    found = measured([points[:100]], now)
    moved = lloyd.step(now, found, share=0.25)
    for c in range(K * lloyd.MOST_SETS):
        expected = 0.75 * now.sums[c] + found.totals.sum("sums")[c]
        np.testing.assert_allclose(moved.sums[c], expected, rtol=1e-12)
        assert moved.counts[c] == 0.75 * now.counts[c] + found.totals.table("lloyd").sizes[c]
        np.testing.assert_allclose(moved.points[c], unit(expected[None])[0], atol=1e-6)


def test_a_centroid_that_nobody_asked_has_images_of_keeps_its_place_and_loses_its_count() -> None:
    axes = torch.eye(K, D)
    now = Clustering(axes.numpy(), 8 * axes.double().numpy(), np.full(K, 8.0), np.zeros(1))
    moved = lloyd.step(now, measured([axes[[0] * 8]], now), share=0.5)
    assert moved.counts.tolist() == [12, 4, 4, 4, 4]
    np.testing.assert_array_equal(moved.points, now.points)


def test_sites_in_turn_lead_to_what_all_sites_together_lead_to() -> None:
    """One class a site, one site an exchange: the hardest case for a mini-batch step."""
    points = images(4)
    sites = PARTITIONS["one class a site"](points)
    start = begin(sites)
    together, in_turn = start, start
    for _ in range(lloyd.STEPS):
        together = lloyd.step(together, measured(sites, together), share=1.0)
    rng = np.random.default_rng(0)
    for _ in range(lloyd.steps(1 / K)):
        chosen = int(rng.integers(K))
        in_turn = lloyd.step(in_turn, measured([sites[chosen]], in_turn), share=1 / K)
    assert in_turn.counts.reshape(-1, K).sum(1) == pytest.approx(np.full(lloyd.MOST_SETS, N))

    def inertia(now: Clustering) -> float:
        centres = lloyd.best(now, None).points
        return float((1 - (points.numpy() @ centres.T).max(axis=1)).sum())

    assert inertia(in_turn) < 1.05 * inertia(together)


def test_a_part_of_the_sites_gets_more_steps_up_to_a_bound() -> None:
    assert [lloyd.steps(p) for p in (1.0, 0.5, 0.3, 0.001)] == [12, 50, 84, 100]
