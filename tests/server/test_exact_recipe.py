"""The recipe `covey-exact`: nothing is trained, and a spread changes nothing but landmarks."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.config import recipes
from common.config.checks import check_plan
from common.record.reader import read_run
from common.utils.errors import UserError
from deploy.engines.simulate import simulate
from tests.builders.runs import plan, run, same

OPTIONS = {
    "images": 300,
    "encoder": "noise-filters",
    "rounds": 0,
    "parameters": "landmarks=60 images=10",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exact") / "run"
    run(folder, "covey-exact", **OPTIONS, partition="p-skew(1.0)", sites=10)
    return folder


def projection(folder: Path) -> dict[str, torch.Tensor]:
    found = load_file(folder / "projector.safetensors")
    return {name: value for name, value in found.items() if name.startswith("0.")}


@pytest.mark.parametrize(
    ("partition", "sites"), [("iid", 3), ("dirichlet(0.1)", 5), ("iid", 1), ("shards(2)", 10)]
)
def test_two_spreads_of_the_same_images_give_the_same_projection_to_the_bit(
    finished: Path, tmp_path: Path, partition: str, sites: int
) -> None:
    run(tmp_path / "run", "covey-exact", **OPTIONS, partition=partition, sites=sites)
    one, other = projection(finished), projection(tmp_path / "run")
    assert one.keys() == other.keys() and len(one) == 2
    for name, value in one.items():
        assert value.numpy().tobytes() == other[name].numpy().tobytes()


def test_the_same_run_gives_the_same_bits(tmp_path: Path) -> None:
    runs = [run(tmp_path / name, "covey-exact", **OPTIONS, sites=4) for name in "ab"]
    assert same(*runs)


def test_it_takes_one_stage_without_rounds_and_leaves_no_features_behind(finished: Path) -> None:
    read = read_run(finished)
    assert not read.rounds and [stage.stage_name for stage in read.stages] == ["clusters"]
    assert sum(read.stages[0].cluster_sizes) == 300
    assert read.stages[0].figures["nmi"] > 0.7  # k-means on pixels: .70 of 1,797 images
    left = {path.name for path in (finished / "sites" / "site-0").rglob("*") if path.is_file()}
    assert left == {"assignments.csv", "left.jsonl"}


def test_a_smaller_part_of_the_sites_answers_where_one_is_asked(tmp_path: Path) -> None:
    run(tmp_path / "run", "covey-exact", **OPTIONS, sites=6, participation=0.5)
    assert read_run(tmp_path / "run").stages[0].figures["nmi"] > 0.5


def test_other_encoders_and_a_projection_alone_can_keep_their_features_too(tmp_path: Path) -> None:
    options = {"images": 200, "features": "anew,kept", "parameters": ",width=16"}
    run(tmp_path / "run", "fedsimclr-projection", **options, rounds="1,0", sites=2)
    saved = load_file(tmp_path / "run" / "projector.safetensors")
    assert saved["linear.weight"].shape == (16, 128)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("covey", {"features": "kept"}, "stage 'start': features = 'kept' is for solvers behind"),
        ("fedsimclr", {"features": "kept"}, "and simclr changes it"),
    ],
)
def test_what_changes_is_not_kept(recipe: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_plan(recipes.load(recipe).plan(options))


def test_with_the_fixed_encoder_training_changes_the_heads_alone(tmp_path: Path) -> None:
    groups = run(tmp_path / "run", "fedsimclr", encoder="noise-filters", images=120)
    start = tmp_path / "start"
    simulate(plan("fedsimclr", encoder="noise-filters", images=120, rounds=0), start)
    first, last = (load_file(f / "encoder.safetensors") for f in (start, tmp_path / "run"))
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert groups["projector"].size
