"""A partition gives every image to exactly one site, by its rule, by its seed, for ever."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.data.partition import Partition, make_partition, parse
from common.utils.errors import UserError

Labels = NDArray[np.int64]
labels = st.lists(st.integers(0, 6), min_size=40, max_size=200).map(lambda x: np.array(x, np.int64))
specs = st.sampled_from(
    [
        "iid",
        "dirichlet(0.01)",
        "dirichlet(1)",
        "p-skew(0)",
        "p-skew(0.4)",
        "p-skew(1)",
        "shards(1)",
        "shards(2)",
    ]
)


def balanced(classes: int, each: int) -> Labels:
    return np.random.default_rng(9).permutation(np.repeat(np.arange(classes), each))


def counts(partition: Partition, labels: Labels) -> NDArray[np.int64]:
    """(sites, classes)."""
    classes = int(labels.max()) + 1
    return np.array([np.bincount(labels[site], minlength=classes) for site in partition.sites])


@settings(deadline=None)
@given(labels, specs, st.integers(1, 20), st.integers(0, 9), st.sampled_from([0.0, 0.3, 5.0]))
def test_every_image_has_exactly_one_site_and_every_site_an_image(
    labels: Labels, spec: str, sites: int, seed: int, size_skew: float
) -> None:
    skew = 0.0 if spec.startswith("shards") else size_skew
    partition = make_partition(labels, spec, sites, seed, skew)
    assert len(partition.sites) == sites
    assert np.array_equal(np.sort(np.concatenate(partition.sites)), np.arange(len(labels)))
    sizes = [len(site) for site in partition.sites]
    assert min(sizes) >= 1
    if spec.startswith(("iid", "dirichlet")):
        assert min(sizes) >= min(10, len(labels) // sites)
    if spec == "iid" and not skew:
        assert max(sizes) - min(sizes) <= 1


@settings(deadline=None)
@given(labels, specs, st.integers(2, 20), st.integers(0, 9))
def test_the_seed_decides_everything(labels: Labels, spec: str, sites: int, seed: int) -> None:
    one, two = (make_partition(labels, spec, sites, seed) for _ in range(2))
    assert one.hash == two.hash
    assert all(map(np.array_equal, one.sites, two.sites))
    other = make_partition(labels, spec, sites, seed + 1)
    assert other.hash != one.hash
    if spec == "iid":
        assert not all(map(np.array_equal, one.sites, other.sites))


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=6),
    st.integers(2, 12),
    st.integers(0, 9),
)
def test_full_p_skew_gives_every_site_its_own_classes_alone(
    sizes: list[int], sites: int, seed: int
) -> None:
    """However unequal the classes; as long as no class has fewer images than sites."""
    labels = np.repeat(np.arange(len(sizes)), np.array(sizes) + sites)
    found = counts(make_partition(labels, "p-skew(1)", sites, seed), labels)
    for site, row in enumerate(found):
        own = [c for c in range(len(sizes)) if c % sites == site % min(sites, len(sizes))]
        assert set(np.flatnonzero(row)) == set(own)
    if sites >= len(sizes):  # the sites of one class share it equally
        for c in range(len(sizes)):
            share = found[c :: len(sizes), c]
            assert share.max() - share.min() <= 1


def test_p_skew_is_ccfcs_for_as_many_sites_as_classes() -> None:
    labels = balanced(10, 200)
    for p in (0.0, 0.25, 0.5, 0.75, 1.0):
        found = counts(make_partition(labels, f"p-skew({p})", 10, 0), labels)
        assert (found.sum(axis=1) == 200).all()
        own = np.diag(found) / 200
        expected = p + (1 - p) / 10  # the shuffled rest has the own class in it
        assert own.mean() == pytest.approx(expected, abs=0.03)
        assert (own >= p).all()


def test_a_smaller_dirichlet_parameter_makes_sites_more_uneven() -> None:
    labels = balanced(10, 300)
    largest = []
    for alpha in ("0.01", "0.5", "1000"):
        found = counts(make_partition(labels, f"dirichlet({alpha})", 10, 0), labels)
        by_class = found / found.sum(axis=0)
        largest.append(by_class.max(axis=0).mean())
    assert largest[0] > 0.85 and largest[0] > largest[1] > largest[2]
    assert largest[2] == pytest.approx(0.1, abs=0.02)


def test_every_site_of_shards_2_has_about_two_classes() -> None:
    labels = balanced(10, 100)
    found = counts(make_partition(labels, "shards(2)", 10, 0), labels)
    assert ((found > 0).sum(axis=1) <= 2).all()
    assert (found.sum(axis=1) == 100).all()


@pytest.mark.parametrize("spec", ["iid", "dirichlet(100)", "p-skew(0.5)"])
def test_size_skew_makes_sizes_uneven(spec: str) -> None:
    labels = balanced(10, 300)
    even, uneven = (
        [len(site) for site in make_partition(labels, spec, 10, 0, skew).sites]
        for skew in (0.0, 0.3)
    )
    assert max(even) < 2 * min(even)
    assert max(uneven) > 10 * min(uneven)


def test_classes_that_no_image_has_do_not_count() -> None:
    labels = np.repeat(np.array([3, 7]), 20)
    found = counts(make_partition(labels, "p-skew(1)", 2, 0), labels)
    assert found[:, [3, 7]].tolist() == [[20, 0], [0, 20]]


def test_unlabelled_images_can_only_be_iid() -> None:
    partition = make_partition(None, "iid", 3, 0, images=10)
    assert sorted(len(site) for site in partition.sites) == [3, 3, 4]
    with pytest.raises(UserError, match="needs labels"):
        make_partition(None, "p-skew(0.5)", 3, 0, images=10)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("dirichlet", "dirichlet needs a number from 0.0001"),
        ("dirichlet(0)", "needs a number"),
        ("dirichlet(nan)", "needs a number"),
        ("p-skew(1.5)", "needs a number from 0 to 1"),
        ("p-skew(x)", "needs a number"),
        ("shards(1.5)", "needs a whole number"),
        ("iid(1)", "iid takes no parameter"),
        ("dirichle(0.1)", "did you mean 'dirichlet'"),
        ("", "unknown partition"),
        ("p-skew(0.5", "unknown partition"),
    ],
)
def test_a_wrong_specification_is_one_line(spec: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        parse(spec)


def test_more_sites_than_images_and_skewed_shards_are_errors() -> None:
    labels = balanced(2, 5)
    with pytest.raises(UserError, match="11 sites need at least one image each: there are 10"):
        make_partition(labels, "iid", 11, 0)
    with pytest.raises(UserError, match=r"shards\(3\) over 4 sites needs 12 images"):
        make_partition(labels, "shards(3)", 4, 0)
    with pytest.raises(UserError, match="size-skew does not go with shards"):
        make_partition(labels, "shards(1)", 4, 0, 0.5)


@settings(deadline=None, max_examples=20)
@given(labels, specs, st.integers(1, 10), st.integers(0, 9))
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, labels: Labels, spec: str, sites: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("partition") / "partition.json"
    partition = make_partition(labels, spec, sites, seed)
    partition.save(path)
    loaded = Partition.load(path)
    assert (loaded.spec, loaded.seed, loaded.hash) == (spec, seed, partition.hash)
    assert all(map(np.array_equal, loaded.sites, partition.sites))


def test_a_file_that_is_missing_cut_or_changed_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "partition.json"
    with pytest.raises(UserError, match="there is no partition file"):
        Partition.load(path)
    make_partition(balanced(3, 10), "iid", 3, 0).save(path)
    whole = path.read_text()
    for broken in (whole[:-20], "", "[]", "{}", json.dumps({**json.loads(whole), "sites": "x"})):
        path.write_text(broken)
        with pytest.raises(UserError, match="cut or damaged"):
            Partition.load(path)
    content = json.loads(whole)
    content["sites"][0][0], content["sites"][1][0] = content["sites"][1][0], content["sites"][0][0]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="was changed"):
        Partition.load(path)
