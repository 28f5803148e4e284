"""What `covey evaluate` refuses: one line, exit code 2."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from common.models.encoders import build_encoder
from tests.deploy.helpers import covey


def rewrite(path: Path, change: Callable[[dict], None]) -> None:
    """Change the tensors of a parameter file; what is noted in it stays."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata=metadata)


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def settle(plan: dict | None = None, **changes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        run = json.loads((folder / "run.json").read_text())
        run["plan"] |= plan or {}
        (folder / "run.json").write_text(json.dumps(run | changes))

    return change


def tensors(change: Callable[[dict], None], name="encoder.safetensors") -> Callable[[Path], None]:
    return lambda folder: rewrite(folder / name, change)


def untrained(found: dict) -> None:
    initial = build_encoder("small-convnet", 1, 8, seed=0).named_parameters()
    found.update({name: p.detach().numpy() for name, p in initial})


def diverged(found: dict) -> None:
    found["network.0.weight"][:] = np.nan


def narrower(found: dict) -> None:
    found["network.0.weight"] = found["network.0.weight"][:16].copy()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (settle(plan={"encoder": "convnet"}), "is a small-convnet, the run's plan says convnet"),
        (settle(plan={"normalisation": "group"}), "does not fit the run's plan"),
        (settle(plan={"seed": -1}), "run.json: seed"),
        (settle(plan={"partition": "own"}), "its sites hold their own images: --dataset FOLDER"),
        (settle(status="running"), "has not finished, it is running"),
        (settle(status="failed"), "has not finished, it is failed"),
        (tensors(narrower), "network.0.weight is (16, 1, 4, 4), expected (32, 1, 4, 4)"),
        (tensors(lambda found: found.pop("network.1.bias")), "network.1.bias is missing"),
        (tensors(untrained), "untrained"),
        (tensors(diverged), "the run has diverged"),
        (tensors(lambda f: f.pop("points"), "centroids.safetensors"), "points is missing"),
        (remove("encoder.safetensors"), "has not finished"),
        (remove("projector.safetensors"), "there is no file"),
        (remove("centroids.safetensors"), "there is no file"),
        (cut("encoder.safetensors"), "encoder.safetensors is damaged"),
        (cut("projector.safetensors"), "projector.safetensors is damaged"),
        (cut("centroids.safetensors"), "centroids.safetensors is damaged"),
        (cut("run.json"), "run.json is damaged"),
        (lambda f: (f / "run.json").write_text("[]"), "run.json is damaged"),
        (lambda f: save_file({}, f / "encoder.safetensors"), "Covey did not write it"),
    ],
)
def test_a_run_that_does_not_fit_is_one_line_with_exit_code_2(
    copied, capsys, damage: Callable[[Path], None], message: str
) -> None:
    folder = copied("projector")
    damage(folder)
    code, _, err = covey(capsys, "evaluate", str(folder))
    assert code == 2 and err.startswith("covey: ") and err.count("\n") == 1, err
    assert message in err


def test_centroids_of_another_run_are_refused(copied, capsys) -> None:
    folder = copied("plain")
    with safe_open(folder / "centroids.safetensors", framework="numpy") as file:
        noted = json.loads(file.metadata()["covey"])
    other = {"covey": json.dumps(noted | {"rounds": 9})}
    save_file(load_file(folder / "centroids.safetensors"), folder / "centroids.safetensors", other)
    code, _, err = covey(capsys, "evaluate", str(folder))
    assert code == 2 and "is of another run" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "semi-2"], "unknown protocol 'semi-2': did you mean 'semi-1'?"),
        (["--protocol", ","], "protocol: expected some of"),
        (["--repeats", "0"], "repeats"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--federated", "--protocol", "semi-1"], "fine-tuning pools images"),
        (["--federated", "--protocol", "knn,semi-1"], "fine-tuning pools images"),
        (["--federated", "--dataset", "digits"], "it takes no --dataset"),
        (["--dataset", "wide.npz"], "side 8, those of wide.npz have 16: --resize scales them"),
        (["--dataset", "colour.npz"], "takes 1×8×8 images, these are 3×8×8"),
        (["--dataset", "bare.npz"], "bare.npz has no labels"),
        (["--dataset", "one.npz"], "too few images"),
        (["--dataset", "same.npz", "--protocol", "semi-1"], "labels of two classes or more"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line_with_exit_code_2(
    runs, capsys, tmp_path: Path, monkeypatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = np.arange(20) % 2
    np.savez("wide.npz", images=np.zeros((20, 16, 16), np.uint8), labels=labels)
    np.savez("colour.npz", images=np.zeros((20, 8, 8, 3), np.uint8), labels=labels)
    np.savez("bare.npz", images=np.zeros((20, 8, 8), np.uint8))
    np.savez("one.npz", images=np.zeros((1, 8, 8), np.uint8), labels=labels[:1])
    np.savez("same.npz", images=np.zeros((20, 8, 8), np.uint8), labels=0 * labels)
    code, _, err = covey(capsys, "evaluate", str(runs("plain")), *arguments)
    assert code == 2 and err.startswith("covey: ") and err.count("\n") == 1, err
    assert message in err


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("plain", remove("partition.json"), "its sites hold their own data"),
        ("plain", cut("partition.json"), "is cut or damaged"),
        ("plain", settle(plan={"images": 200}), "there is no image"),
        ("plain", settle(plan={"images": 0}), "are not those that it had in the run"),
        ("plain", settle(classes=["a", "b"]), "are not those of the run"),
        ("local", lambda _: None, "running statistics of its own"),
    ],
)
def test_a_federation_that_is_not_the_runs_is_refused(
    copied, capsys, name: str, damage: Callable[[Path], None], message: str
) -> None:
    folder = copied(name)
    damage(folder)
    code, _, err = covey(capsys, "evaluate", str(folder), "--federated")
    assert code == 2 and err.count("\n") == 1 and message in err, err
