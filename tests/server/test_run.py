"""Whole runs on the in-process engine: what they leave, how they repeat, how they resume."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch.nn.modules.batchnorm import _BatchNorm

from client.trainer import Trainer
from common.config import recipes
from common.models.noise_filters import NoiseFilters
from common.stages import build_stage
from common.utils.errors import UserError
from deploy.engines import simulate as simulate_module
from deploy.engines.simulate import simulate
from server import app as server_app
from server.run.folder import RunFolder
from server.strategy import CoveyStrategy
from tests.builders.records import events
from tests.server.unlabelled import without_labels

SMALL = {"dataset": "digits", "images": 240, "sites": 3, "local-epochs": 1, "batch-size": 32}


def plan(recipe="fedmcc", **options):
    return recipes.load(recipe).plan(
        {**SMALL, "rounds": "2,2" if recipe == "fedmcc" else "2", **options}
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    simulate(plan(), folder)
    return folder


def test_a_run_leaves_its_settings_metrics_encoder_centroids_and_report(finished: Path) -> None:
    run = json.loads((finished / "run.json").read_text())
    assert run["status"] == "finished"
    assert run["plan"]["clusters"] == 10
    assert set(run["sites"]) == {"site-0", "site-1", "site-2"}
    assert [e["round"] for e in events(finished, "round")] == [1, 2, 3, 4]
    assert load_file(finished / "centroids.safetensors")["points"].shape == (10, 256)
    assert (finished / "report.html").stat().st_size > 10_000
    for name in ("site-0", "site-1", "site-2"):
        assigned = finished / "sites" / name / "whole" / "assignments.csv"
        assert len(assigned.read_text().splitlines()) == 1 + run["sites"][name]["examples"]


def test_every_stage_ends_with_scores_over_all_images(finished: Path) -> None:
    for stage in events(finished, "stage"):
        assert np.sum(stage["table"]) == sum(stage["cluster_sizes"]) == SMALL["images"]
        assert stage["labelled"] == SMALL["sites"]
        for score in ("acc", "nmi", "ari", "knn", "linear"):
            assert -1 <= stage[score] <= 1
        assert stage["effective_rank"] > 1
    assert [stage["by"] for stage in events(finished, "stage")] == ["centroids", "head"]


def test_every_round_measures_the_new_model_and_counts_bytes(finished: Path) -> None:
    first, last = (events(finished, "round")[i] for i in (0, 1))
    assert last["received"]["nmi"] != first["received"]["nmi"]
    model = load_file(finished / "encoder.safetensors")
    numbers = sum(a.size for name, a in model.items() if "num_batches" not in name)
    assert first["bytes_up"] > 3 * 4 * numbers


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(
    finished: Path, tmp_path: Path
) -> None:
    simulate(plan(), tmp_path / "whole")
    simulate(plan(seed=1), tmp_path / "other")
    same, other = (
        (tmp_path / name / "encoder.safetensors").read_bytes() for name in ("whole", "other")
    )
    assert (finished / "encoder.safetensors").read_bytes() == same != other
    assert (finished / "centroids.safetensors").read_bytes() == (
        tmp_path / "whole" / "centroids.safetensors"
    ).read_bytes()


class Killed(BaseException):
    """Nothing catches this, as nothing catches a kill."""


@pytest.mark.parametrize("moment", ["before the round", "in the round", "after the checkpoint"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_resumed_run_ends_with_the_same_bits(
    finished: Path, tmp_path: Path, monkeypatch, moment: str, number: int
) -> None:
    folder = tmp_path / "whole"
    name = "advance" if moment == "after the checkpoint" else "_ask"
    original = getattr(CoveyStrategy, name)

    def dying(self, *args, **kwargs):
        due = self.state.round == number - 1 and self.state.closed == int(number > 2)
        if due and moment == "before the round":
            raise Killed
        result = original(self, *args, **kwargs)
        if due:
            raise Killed
        return result

    with monkeypatch.context() as patched:
        patched.setattr(CoveyStrategy, name, dying)
        with pytest.raises(Killed):
            simulate(plan(), folder)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"event": "round", "rou')  # the line in flight
    simulate(plan(), folder)
    for result in ("encoder.safetensors", "centroids.safetensors"):
        assert (folder / result).read_bytes() == (finished / result).read_bytes()
    assert [e["round"] for e in events(folder, "round")] == [1, 2, 3, 4]
    assert [e["stage"] for e in events(folder, "stage")] == [0, 1]
    scores = [e["nmi"] for e in events(folder, "stage")]
    assert scores == [e["nmi"] for e in events(finished, "stage")]


def test_whatever_sites_and_server_remember_a_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch
) -> None:
    """Queues, targets, the site's own model and statistics; the server optimiser's velocity. The
    sites had already trained the round that the server has not kept."""
    options = {
        "rounds": 3,
        "participation": 0.7,
        "batchnorm": "local",
        "merge": "fedema",
        "server-optimiser": "momentum",
        "encoder": "small-convnet",
    }
    the_plan = plan("fedmoco", **options)
    simulate(the_plan, tmp_path / "one" / "run")
    original = CoveyStrategy._ask

    def dying(self, grid, kind, number, **more):
        exchange = original(self, grid, kind, number, **more)
        if (kind, number) == ("train", 3):
            raise Killed
        return exchange

    with monkeypatch.context() as patched:
        patched.setattr(CoveyStrategy, "_ask", dying)
        with pytest.raises(Killed):
            simulate(the_plan, tmp_path / "two" / "run")
    simulate(the_plan, tmp_path / "two" / "run")
    for path in sorted((tmp_path / "one").rglob("*.safetensors")):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes(), path.name


def test_a_folder_with_another_run_is_refused(finished: Path) -> None:
    with pytest.raises(UserError, match="another plan"):
        simulate(plan(seed=9), finished)
    assert json.loads((finished / "run.json").read_text())["plan"]["seed"] == 0


def test_a_damaged_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00cut")
    with pytest.raises(UserError, match=r"checkpoint\.safetensors is damaged"):
        folder.checkpoint()


METHODS = [name for name in recipes.names() if not name.startswith(recipes.PUBLISHED)]


@pytest.mark.parametrize("recipe", METHODS)
@pytest.mark.parametrize("batchnorm", ["average", "local"])
def test_every_recipe_runs_with_averaged_and_with_local_batchnorm(
    recipe: str, batchnorm: str, tmp_path: Path
) -> None:
    own = recipes.load(recipe).plan()
    rounds = [min(1, stage.rounds) for stage in own.stages]
    options = {"rounds": ",".join(map(str, rounds)), "batchnorm": batchnorm}
    the_plan = plan(recipe, encoder=own.encoder or "small-convnet", **options)  # or left to us
    simulate(the_plan, tmp_path / "run")
    groups = load_file(tmp_path / "run" / "checkpoint.safetensors")
    objective = build_stage(the_plan, len(rounds) - 1, 1, 8, 10)
    # Running statistics, or filters that no one trains.
    has_statistics = any(isinstance(m, _BatchNorm | NoiseFilters) for m in objective.modules())
    sent = batchnorm == "average" and has_statistics
    assert any(name.endswith(".buffers") for name in groups) == sent


def test_partial_participation_asks_a_seeded_part_of_the_sites(tmp_path: Path) -> None:
    simulate(plan("fedsimclr", participation=0.5, sites=4, rounds=4), tmp_path / "run")
    asked = [tuple(e["answered"]) for e in events(tmp_path / "run", "round")]
    assert all(len(sites) == 2 for sites in asked)
    assert len(set(asked)) > 1


def test_sites_without_labels_still_give_clusters_and_label_free_figures(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(simulate_module, "planned_data", without_labels)
    simulate(plan("fedsimclr", partition="iid"), tmp_path / "run")
    (stage,) = events(tmp_path / "run", "stage")
    assert "acc" not in stage and "table" not in stage
    assert sum(stage["cluster_sizes"]) == SMALL["images"]
    assert stage["silhouette"] > 0 and 0 < stage["entropy"] <= 1


def test_a_missed_quorum_fails_the_run_and_says_so(tmp_path: Path, monkeypatch) -> None:
    original = Trainer.handle

    def failing(self, instruction):
        if instruction.kind == "train" and self.site != "site-0":
            raise UserError("no power")
        return original(self, instruction)

    monkeypatch.setattr(Trainer, "handle", failing)
    with pytest.raises(UserError, match="quorum was missed"):
        simulate(plan("fedsimclr", quorum=0.6), tmp_path / "run")
    texts = [e["text"] for e in events(tmp_path / "run", "warning")]
    assert any("site-1 refused: no power" in text for text in texts)


def test_the_server_never_reads_labels() -> None:
    """Labels stay in `client`; the server knows tables of counts only."""
    source = Path(server_app.__file__).parent
    text = "".join(path.read_text() for path in source.glob("*.py"))
    assert "data.labels" not in text and "y_train" not in text


def test_collapsing_embeddings_are_warned_of_in_the_round_they_show(
    tmp_path: Path, monkeypatch
) -> None:
    """Every embedding the same, as a site would report it."""

    def collapsed(points):
        constant = np.zeros(points.shape[1])
        constant[0] = len(points)
        return {"sum": constant, "squares": constant}

    monkeypatch.setattr("client.statistics.measure.spread", collapsed)
    simulate(plan("fedsimclr", rounds=1), tmp_path / "run")
    (first,) = events(tmp_path / "run", "warning")  # and not again at the stage's end
    assert first["round"] == 1 and "embeddings are collapsing" in first["text"]
    assert events(tmp_path / "run", "round")[0]["received"]["std"] == 0


@pytest.mark.parametrize("stopped", [True, False])
def test_simsiam_without_its_stop_gradient_collapses_and_the_run_says_so(
    stopped: bool, tmp_path: Path
) -> None:
    """Two sites in training for real; with the stop-gradient nothing is said."""
    the_plan = plan(
        "fedsimsiam",
        encoder="small-convnet",
        embedding="projector",
        rounds=3,
        sites=2,
        **{"local-epochs": 8, "learning-rate": 0.005},
        parameters=f"output-norm=false stop-gradient={str(stopped).lower()}",
    )
    simulate(the_plan, tmp_path / "run")
    texts = [e["text"] for e in events(tmp_path / "run", "warning")]
    assert any("embeddings are collapsing" in text for text in texts) == (not stopped)
    std = events(tmp_path / "run", "stage")[-1]["std"]
    assert std > 0.3 if stopped else std < 0.05
