"""The recipe `covey-exact`: nothing is trained, and a spread changes nothing but landmarks."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from client.trainer import Trainer
from common.config import recipes
from common.config.checks import check_plan
from common.protocol.messages import Instruction, Reply
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


def test_landmarks_that_cannot_tell_the_clusters_apart_are_warned_of(tmp_path: Path) -> None:
    run(tmp_path / "run", "covey-exact", **OPTIONS | {"images": 60}, partition="iid", sites=1)
    (warning,) = read_run(tmp_path / "run").warnings
    assert warning.text.startswith("6 landmarks for 10 clusters: so few images do not come apart")


SUMS = {**OPTIONS, "min-count": 1, "parameters": "landmarks-from=sums landmarks=60 images=10"}
LEARNED = ("encoder", "projector", "centroids")  # all that a run ends with; the projector has
# projection, landmarks and their coordinates


def assigned(folder: Path) -> dict[str, str]:
    """The cluster of each image of the data set."""
    found = {}
    for path in sorted((folder / "sites").rglob("assignments.csv")):
        _, *lines = path.read_text().splitlines()
        found |= dict(line.split(",") for line in lines)
    return found


@pytest.fixture(scope="module")
def from_sums(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sums") / "run"
    run(folder, "covey-exact", **SUMS, partition="p-skew(1.0)", sites=10)
    return folder


@pytest.mark.parametrize(("partition", "sites"), [("iid", 3), ("dirichlet(0.1)", 5), ("iid", 1)])
def test_with_landmarks_from_sums_two_spreads_give_the_same_run_to_the_bit(
    from_sums: Path, tmp_path: Path, partition: str, sites: int
) -> None:
    other = tmp_path / "run"
    run(other, "covey-exact", **SUMS, partition=partition, sites=sites)
    for part in LEARNED:
        one, two = (load_file(folder / f"{part}.safetensors") for folder in (from_sums, other))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert len(assigned(other)) == 300 and assigned(from_sums) == assigned(other)
    figures = [read_run(folder).stages[0].figures for folder in (from_sums, other)]
    for name in ("nmi", "acc", "agreement"):
        assert figures[0][name] == figures[1][name]
    assert figures[0]["nmi"] > 0.7


def test_another_seed_gives_other_landmarks_from_sums(from_sums: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", "covey-exact", **SUMS, partition="iid", sites=2, seed=1)
    one, two = (load_file(f / "projector.safetensors") for f in (from_sums, tmp_path / "run"))
    assert not torch.equal(one["1.scores.weight"], two["1.scores.weight"])


def test_then_no_site_sends_a_centre_of_its_own(from_sums: Path, finished: Path) -> None:
    def left(folder: Path) -> str:
        return (folder / "sites" / "site-0" / "left.jsonl").read_text()

    assert '"centroids"' in left(finished) and '"centroids"' not in left(from_sums)


@pytest.mark.parametrize("forgetful", [False, True])
def test_the_model_comes_with_the_first_of_its_steps_alone(
    from_sums: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: bool
) -> None:
    handle, sent = Trainer.handle, []

    def watched(self: Trainer, instruction: Instruction) -> Reply:
        if forgetful and instruction.step == 3:
            self.projected.forget()
        if instruction.kind == "landmark_sums":
            sent.append((instruction.step, bool(instruction.groups)))
        return handle(self, instruction)

    monkeypatch.setattr(Trainer, "handle", watched)
    run(tmp_path / "run", "covey-exact", **SUMS, partition="iid", sites=1)
    assert [step for step, model in sent if model] == [1, 3][: 1 + forgetful]
    assert 1 + 5 + 2 <= sent[-1][0] <= 1 + 5 + 2 + 2  # 30 landmarks of 300 images
    one, two = (f / "projector.safetensors" for f in (from_sums, tmp_path / "run"))
    assert one.read_bytes() == two.read_bytes()


def test_the_bound_of_a_site_holds_for_each_sum_and_the_run_goes_on(tmp_path: Path) -> None:
    options = {**SUMS, "min-count": 5}
    run(tmp_path / "run", "covey-exact", **options, partition="iid", sites=3)
    assert read_run(tmp_path / "run").stages[0].figures["nmi"] > 0.6


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
        (
            "covey-exact",
            {"features": "anew", "parameters": "landmarks-from=sums"},
            "landmark-spectral needs features = 'kept'",
        ),
        (
            "covey-exact",
            {
                "parameters": "landmarks-from=sums",
                "centroids": "robust-lloyd",
                "byzantine": 1,
                "sites": 9,
            },
            "'robust-lloyd' needs single answers",
        ),
        ("covey-exact", {"parameters": "landmarks-from=sum"}, "unknown source of landmarks 'sum'"),
        (
            "covey-exact",
            {"solver": "chosen-spectral", "parameters": "landmarks-from=sums"},
            "compares landmarks of sites",
        ),
    ],
)
def test_what_does_not_go_together_is_said(
    recipe: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_plan(recipes.load(recipe).plan(options))


def test_with_the_fixed_encoder_training_changes_the_heads_alone(tmp_path: Path) -> None:
    groups = run(tmp_path / "run", "fedsimclr", encoder="noise-filters", images=120)
    start = tmp_path / "start"
    simulate(plan("fedsimclr", encoder="noise-filters", images=120, rounds=0), start)
    first, last = (load_file(f / "encoder.safetensors") for f in (start, tmp_path / "run"))
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert groups["projector"].size
