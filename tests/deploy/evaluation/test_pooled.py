"""`covey evaluate`: what each protocol reads, what equals the run's figures, what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from client.embedding import embed
from common.augmentations import build_augmentation
from common.data import load
from common.protocol import layout
from common.record.reader import read_run
from common.stages import build_stage
from deploy.evaluation import finetune
from deploy.evaluation import pooled as evaluate
from deploy.evaluation.data_map import write_map
from deploy.evaluation.pooled import Asked, evaluate_pooled, parse_protocols, pool, semi_supervised
from deploy.evaluation.trained import load_trained
from server.run.folder import RunFolder
from tests.deploy.helpers import covey

IMAGES = 240  # of the runs (`conftest.py`)


def stage_figures(folder: Path) -> dict:
    stage = read_run(folder).stages[-1]
    return {"bytes_up": stage.bytes_up, **stage.figures}


def figures(capsys, tmp_path: Path, folder: Path, *arguments: str) -> tuple[dict, str]:
    path = tmp_path / "figures.json"
    code, out, err = covey(capsys, "evaluate", str(folder), "--json", str(path), *arguments)
    assert code == 0, err
    return json.loads(path.read_text()), out


def test_all_protocols_are_in_the_table_with_the_space_that_they_were_computed_in(
    runs, capsys, tmp_path: Path
) -> None:
    found, out = figures(capsys, tmp_path, runs("projector"), "--protocol", "all", "--repeats", "2")
    assert found["images"] + found["held_out"] == IMAGES
    assert all(0 <= found[name] <= 1 for name in ("knn", "linear"))
    for line in ("centroids (projector)", "k-means, pooled (projector)", "kNN (encoder)"):
        assert line in out
    assert "fine-tuned with 1 % of the labels (10)" in out and "±" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_only_what_is_asked_for_is_computed(runs, capsys, tmp_path: Path) -> None:
    found, _ = figures(capsys, tmp_path, runs("plain"), "--protocol", "knn")
    assert "knn" in found and not found.keys() & {"kmeans", "centroids", "linear", "semi-1"}
    assert parse_protocols("semi-1, knn") == ("knn", "semi-1")


def test_fine_tuning_with_a_tenth_of_the_labels_is_far_better_than_chance(runs) -> None:
    trained = load_trained(runs("plain"), "cpu")
    pooled = pool(trained, Asked())
    before = [p.clone() for p in trained.encoder.parameters()]
    found = semi_supervised(trained, pooled, "semi-10", repeats=3)
    assert found["mean"] > 0.35  # chance is 0.1
    assert found["mean"] == pytest.approx(np.mean(found["accuracies"]))
    assert found["std"] == pytest.approx(np.std(found["accuracies"], ddof=1))
    assert all(torch.equal(a, b) for a, b in zip(before, trained.encoder.parameters(), strict=True))
    again = semi_supervised(trained, pooled, "semi-10", repeats=1)
    assert again["accuracies"] == found["accuracies"][:1] and again["std"] is None


def test_fine_tuning_moves_the_encoder_and_not_the_classifier_alone(runs) -> None:
    trained = load_trained(runs("plain"), "cpu")
    model = finetune.fine_tune(
        trained, pool(trained, Asked()).train.subset(np.arange(20)), 2, torch.Generator()
    )
    first = next(trained.encoder.parameters())
    assert not torch.equal(next(model.parameters()), first)


def test_labels_are_drawn_by_class_and_a_smaller_draw_is_part_of_a_larger_one() -> None:
    labels = torch.tensor([0] * 200 + [1] * 50 + [3] * 3)[torch.randperm(253)]

    def draw(share: float, seed: int) -> torch.Tensor:
        return finetune.draw_labelled(labels, share, torch.Generator().manual_seed(seed))

    ten, one = draw(0.1, 0), draw(0.01, 0)
    assert labels[ten].bincount(minlength=4).tolist() == [20, 5, 0, 1]
    assert labels[one].bincount(minlength=4).tolist() == [2, 1, 0, 1]
    assert len(set(ten.tolist())) == len(ten) and set(one.tolist()) <= set(ten.tolist())
    assert set(draw(0.1, 1).tolist()) != set(ten.tolist())


def test_labels_of_held_out_images_change_no_fit(runs, monkeypatch) -> None:
    """The same fits, and so other scores, when every held-out label is another one."""
    trained = load_trained(runs("plain"), "cpu")
    asked = Asked(protocols=("clustering", "knn", "linear", "semi-10"))
    fits: list[np.ndarray] = []
    for module, name in ((evaluate.metrics, "solve_probe"), (finetune, "predict")):
        original = getattr(module, name)

        def keeping(*arguments, original=original):
            fits.append(np.asarray(original(*arguments)))
            return original(*arguments)

        monkeypatch.setattr(module, name, keeping)
    honest = evaluate_pooled(trained, asked)
    split = evaluate._hold_out

    def flipped(data, seed):
        train, test = split(data, seed)
        return train, replace(test, labels=(test.labels + 1) % 10)

    monkeypatch.setattr(evaluate, "_hold_out", flipped)
    other = evaluate_pooled(trained, asked)
    probe, predictions, probe_again, predictions_again = fits
    assert np.array_equal(probe, probe_again) and np.array_equal(predictions, predictions_again)
    assert honest["kmeans"] == other["kmeans"] and honest["centroids"] == other["centroids"]
    for name in ("knn", "linear"):
        assert honest[name] > 0.3 > other[name]


def test_a_test_split_is_scored_on_and_not_fitted_on(runs, tmp_path: Path) -> None:
    data = load("digits")
    path = tmp_path / "split.npz"
    images = data.images[:, 0]
    np.savez(
        path,
        x_train=images[:100],
        y_train=data.labels[:100],
        x_test=images[100:170],
        y_test=data.labels[100:170],
    )
    found = evaluate_pooled(load_trained(runs("plain"), "cpu"), Asked(dataset=str(path)))
    assert (found["images"], found["held_out"]) == (100, 70)


# Site by site


@pytest.mark.parametrize("name", ["plain", "group"])
def test_federated_figures_are_the_runs_own_to_the_last_bit(
    runs, capsys, tmp_path: Path, name: str
) -> None:
    found, out = figures(capsys, tmp_path, runs(name), "--federated", "--device", "cpu")
    own = stage_figures(runs(name))
    assert {key: own[key] for key in ("knn", "linear")} == {
        key: found[key] for key in ("knn", "linear")
    }
    assert found["centroids"] == {key: own[key] for key in found["centroids"]}
    assert found["images"] == IMAGES and "exactly these" in " ".join(out.split())


def test_federated_centroids_are_scored_in_the_projectors_space(
    runs, capsys, tmp_path: Path
) -> None:
    found, out = figures(capsys, tmp_path, runs("projector"), "--federated", "--protocol", "all")
    own = stage_figures(runs("projector"))
    assert found["centroids"] == {key: own[key] for key in found["centroids"]}
    assert "centroids (projector)" in out and "moments (encoder)" in out
    assert found["knn"] != own["knn"]  # the run's are of the projector's output


# The networks that are read back


def test_the_published_networks_are_those_of_the_last_checkpoint(runs) -> None:
    folder = runs("projector")
    trained = load_trained(folder, "cpu")
    checkpoint = RunFolder(folder).checkpoint()
    assert checkpoint is not None
    objective = build_stage(trained.plan, 0, 1, 8, 10)
    layout.load(objective.shared(), checkpoint.groups)
    objective.to(memory_format=torch.channels_last)
    data = load("digits", images=50)
    views = build_augmentation("auto", data.kind, 8)
    for space in ("encoder", "projector"):
        wanted = embed(objective, views, torch.from_numpy(data.images), space, torch.device("cpu"))
        assert torch.equal(trained.embed(data, space), wanted.points)
    assert trained.centroids is not None
    assert trained.centroids.shape[1] == trained.embed(data, "projector").shape[1]
    assert not (runs("plain") / "projector.safetensors").exists()


def test_a_run_without_batchnorm_is_read_back_without_it(runs) -> None:
    encoder = load_trained(runs("group"), "cpu").encoder
    kinds = {type(module) for module in encoder.modules()}
    assert nn.GroupNorm in kinds and nn.BatchNorm2d not in kinds


def test_the_map_shows_the_space_in_which_the_run_clusters(copied, runs) -> None:
    folder = copied("projector")
    write_map(folder)
    drawn = json.loads((folder / "map.json").read_text())
    table = np.array(read_run(folder).stages[-1].table)
    assert sorted(np.bincount(drawn["cluster"], minlength=10)) == sorted(table.sum(axis=1))


def test_local_statistics_are_those_of_the_training_images(runs) -> None:
    trained = load_trained(runs("local"), "cpu")
    assert trained.centroids is None  # each site's are of its own statistics
    norm = next(m for m in trained.encoder.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.running_mean is not None and not norm.running_mean.any()  # as published
    pooled = pool(trained, Asked())
    initial = trained.embed(pooled.test, "projector")
    trained.estimate_statistics(pooled.train)
    first = next(m for m in trained.encoder.modules() if isinstance(m, nn.Conv2d))
    pixels = torch.from_numpy(pooled.train.images).float() / 255
    maps = F.conv2d((pixels - 0.5) / 0.25, first.weight, stride=2, padding=1)
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, maps.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1 and not norm.training
    assert not torch.equal(trained.embed(pooled.test, "projector"), initial)


def test_local_statistics_are_estimated_before_all_is_scored(
    runs, capsys, tmp_path: Path, monkeypatch
) -> None:
    with_them, _ = figures(capsys, tmp_path, runs("local"))
    assert "centroids" not in with_them and "kmeans" in with_them
    monkeypatch.setattr("deploy.evaluation.networks.Networks.estimate_statistics", lambda *_: None)
    without, _ = figures(capsys, tmp_path, runs("local"))
    assert with_them["kmeans"] != without["kmeans"]


def test_averaged_statistics_stay_as_they_were_published(runs) -> None:
    trained = load_trained(runs("plain"), "cpu")
    before = {name: t.clone() for name, t in trained.encoder.state_dict().items()}
    trained.estimate_statistics(load("digits", images=40))
    assert all(torch.equal(t, before[name]) for name, t in trained.encoder.state_dict().items())


def test_images_of_another_side_are_scaled_on_request(runs, capsys, tmp_path: Path) -> None:
    data = load("digits", images=60)
    path = tmp_path / "wide.npz"
    np.savez(path, images=data.images[:, 0].repeat(2, 1).repeat(2, 2), labels=data.labels)
    found, _ = figures(capsys, tmp_path, runs("plain"), "--dataset", str(path), "--resize")
    assert found["images"] + found["held_out"] == 60
