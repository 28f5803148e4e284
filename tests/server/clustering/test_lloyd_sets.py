"""Federated k-means' sets of centroids: which there are, which go on, which is kept."""

import numpy as np
import torch

from client.statistics.clusters import local_clusters
from common.clustering.centroids import Centroids, unit
from common.utils.seeds import generator
from server.clustering import lloyd
from server.clustering.lloyd import Clustering
from server.clustering.rules import merge_centroids
from tests.server.clustering.test_lloyd import PARTITIONS, D, K, N, begin, images, measured


def test_the_set_of_least_inertia_is_kept_in_the_order_of_the_clusters_before() -> None:
    good = np.eye(K, D, dtype=np.float32)
    points = np.concatenate([-good, good])
    sets = Clustering(points, np.zeros((2 * K, D)), np.arange(2.0 * K), np.array([9.0, 1.0]))
    before = Centroids(good[[4, 2, 0, 1, 3]], np.ones(K, np.int64))
    assert lloyd.best(sets, before).counts.tolist() == [9, 7, 5, 6, 8]
    assert lloyd.best(sets, before).points.tolist() == before.points.tolist()
    assert lloyd.best(sets, None).counts.tolist() == [9, 8, 7, 6, 5]


def test_the_starts_are_the_merged_centroids_and_others_by_seed() -> None:
    sites = PARTITIONS["dealt"](images())
    one, same, other = begin(sites), begin(sites), begin(sites, seed=1)
    assert one.points.tobytes() == same.points.tobytes() != other.points.tobytes()
    assert len(one.points) == K * lloyd.MOST_SETS
    assert one.counts.reshape(-1, K).sum(1).tolist() == [N] * lloyd.MOST_SETS
    assert len(np.unique(one.points.round(5), axis=0)) > 2 * K


def by_inertia(*inertia: float) -> Clustering:
    """Sets that can be told by their numbers: all of set i's are i."""
    sets = np.repeat(np.arange(float(len(inertia))), K)
    wide = np.repeat(sets[:, None], D, axis=1)
    return Clustering(wide.astype(np.float32), wide, sets, np.array(inertia))


def test_the_worse_half_is_given_up_until_a_few_are_left() -> None:
    rng = np.random.default_rng(0)
    now = by_inertia(*rng.permutation(lloyd.MOST_SETS).astype(float))
    sizes = []
    for number in range(1, 7):
        kept = lloyd.fewer(now, number, 1.0)
        assert sorted(kept.inertia) == sorted(now.inertia)[: len(kept.inertia)]
        for name in ("points", "sums", "counts"):  # each set's own go with it, in the old order
            first = getattr(kept, name).reshape(len(kept.inertia), -1)[:, 0].tolist()
            assert first == sorted(first)
            assert [now.inertia.tolist().index(i) for i in kept.inertia] == [
                getattr(now, name).reshape(len(now.inertia), -1)[:, 0].tolist().index(f)
                for f in first
            ]
        now = kept
        sizes.append(len(now.inertia))
    assert sizes == [32, 16, 8, 8, 8, 8] and lloyd.KEPT == 8


def test_with_a_part_of_the_sites_none_is_given_up_before_each_was_asked_twice() -> None:
    now = by_inertia(*range(lloyd.MOST_SETS))
    asked = [len(lloyd.fewer(now, number, 0.3).inertia) for number in range(1, 15)]
    assert asked == [64] * 6 + [32] + [64] * 6 + [32]


def test_many_starts_find_what_few_miss(monkeypatch) -> None:
    """Fifteen clusters, a few at each site: k-means of the sites' centroids has many optima."""
    k, rng = 15, np.random.default_rng(0)
    middles = unit(rng.normal(size=(k, D)))
    points = torch.from_numpy(unit(np.repeat(middles, 20, 0) + 0.3 * rng.normal(size=(300, D))))
    sites = list(points.split(60))

    def ending(seed: int) -> float:
        local = [
            (f"site-{i}", local_clusters(site, k, 1, generator("cpu", seed, i)).centroids)
            for i, site in enumerate(sites)
        ]
        first = merge_centroids(local, None, k, seed).centroids
        now = lloyd.starts(local, first, k, seed)
        for number in range(1, lloyd.STEPS + 1):
            now = lloyd.fewer(lloyd.step(now, measured(sites, now), 1.0), number, 1.0)
        return float(now.inertia.min())

    many = [ending(seed) for seed in range(4)]
    monkeypatch.setattr(lloyd, "MOST_SETS", lloyd.KEPT)
    few = [ending(seed) for seed in range(4)]
    assert all(a <= b for a, b in zip(many, few, strict=True))
    assert np.mean(many) < np.mean(few) - 0.1


def test_it_settles_when_no_centroid_of_any_set_moves() -> None:
    points = images()
    now = begin([points])
    taken = 0
    while True:
        before, now = now, lloyd.step(now, measured([points], now), share=1.0)
        taken += 1
        if lloyd.has_settled(before, now):
            break
    assert 1 < taken < 4 * lloyd.STEPS
    again = lloyd.step(now, measured([points], now), share=1.0)
    assert lloyd.has_settled(now, again)
