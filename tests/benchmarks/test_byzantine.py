"""The benchmark of Byzantine sites: a tiny cell of it, and that its attacks are what they say."""

import csv

import numpy as np
import pytest

from common.clustering.centroids import Centroids, unit
from common.config.recipes import load
from common.protocol.messages import Instruction, Reply
from tests.benchmarks.scripts import script

TINY = {
    "recipes": "fedsimclr",
    "dataset": "digits",
    "side": 0,
    "images": 200,
    "sites": 5,
    "byzantine": 1,
    "seeds": "0",
    "rounds": 1,
    "local_epochs": 1,
}


byzantine, attacks = script("byzantine"), script("_byzantine_attacks")


def test_nan_is_refused_and_the_defence_counts_on_it_and_nothing_runs_twice(tmp_path) -> None:
    """Krum needs 5 answers against one Byzantine site, or 3 where that one has been found out."""
    table = tmp_path / "rows.csv"
    for _ in range(2):
        byzantine.main(**TINY, attacks="nan", defences="krum", csv=table)
        with table.open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert float(row["nmi"]) > 0 and int(row["refused"]) >= 2  # train and assess
        assert row["attack"] == "nan" and row["defence"] == "krum"


@pytest.mark.parametrize("defence", ["trimmed-mean", "multi-krum"])
def test_every_exchange_of_covey_is_run_against_an_attack(tmp_path, defence: str) -> None:
    """Its moment, its projection and its steps of Lloyd's, with robust rules, end in a result."""
    table = tmp_path / "rows.csv"
    tiny = {**TINY, "recipes": "covey", "images": 250}
    byzantine.main(**tiny, attacks="noise", defences=defence, csv=table)
    with table.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["nmi"] and float(row["nmi"]) > 0.1


def exchange() -> tuple[Instruction, Reply]:
    groups = {"encoder": np.array([1, 2], np.float32)}
    own = {"encoder": np.array([2, 1], np.float32)}
    plan = load("fedsimclr").plan({"clusters": 2})
    points = unit(np.random.default_rng(0).normal(size=(2, 4)))
    return (
        Instruction(kind="train", run="r", round=1, plan=plan, groups=groups),
        Reply(
            kind="train",
            site="site-9",
            round=1,
            examples=10,
            groups=own,
            centroids=Centroids(points, np.array([5, 5])),
            moments={"gram": np.eye(2)},
        ),
    )


@pytest.mark.parametrize(
    ("name", "model", "same_centroids"),
    [
        ("sign-flip", [-3, 6], False),
        ("scale", [101, -98], True),
        ("shifted-centroids", [2, 1], False),
    ],
)
def test_an_attack_is_what_it_says(name: str, model, same_centroids: bool) -> None:
    asked, reply = exchange()
    false = attacks.ATTACKS[name](asked, reply, np.random.default_rng(0))
    assert false.groups["encoder"].tolist() == model
    assert np.allclose(false.centroids.points, reply.centroids.points) == same_centroids
    assert np.array_equal(false.centroids.counts, reply.centroids.counts)
