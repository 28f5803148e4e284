"""`covey export`: each format, loaded by the tool that it is for, gives the same embeddings."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import covey
from common.config import recipes
from common.data import load
from common.utils.errors import UserError
from deploy.engines.simulate import simulate
from deploy.using.exporting import KINDS, export
from tests.deploy.helpers import covey as command

CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """As the exported models take them: seven, where they were traced with another number."""
    return load("digits").images[:7].astype(np.float32) / 255


@pytest.fixture(scope="module")
def wanted(run) -> np.ndarray:
    return covey.load(run, "cpu").embed(load("digits").images[:7])


def by_safetensors(path: Path, images: np.ndarray) -> np.ndarray:
    """The network built by hand, from what the card says."""
    tensors = load_file(path)
    layers: list[nn.Module] = []
    for inner, outer in ((1, 32), (32, 64), (64, 128)):
        convolution = nn.Conv2d(inner, outer, 4, stride=2, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outer), nn.LeakyReLU(0.2)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    name = "encoder.network."
    network.load_state_dict({k[len(name) :]: v for k, v in tensors.items() if k.startswith(name)})
    with torch.no_grad():
        z = network((torch.from_numpy(images) - 0.5) / 0.25)
    assert tensors["centroids"].shape == (10, z.shape[1])
    return nn.functional.normalize(z, dim=1).numpy()


def by_torch(path: Path, images: np.ndarray) -> np.ndarray:
    return torch.export.load(path).module()(torch.from_numpy(images))[0].detach().numpy()


def by_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    points, similarity = session.run(None, {"images": images})
    assert similarity.shape == (len(images), 10)
    return points


@pytest.mark.parametrize(
    ("kind", "loaded"),
    [("safetensors", by_safetensors), ("torch-export", by_torch), ("onnx", by_onnx)],
)
def test_another_tool_gives_the_same_embeddings(
    kind, loaded, run, images, wanted, tmp_path, capsys
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxscript", reason="onnx and onnxscript are not installed")
    folder = tmp_path / "exported"
    code, out, err = command(capsys, "export", str(run), "--to", kind, "-o", str(folder))
    assert code == 0, err
    assert str(folder / KINDS[kind][0]) in out
    np.testing.assert_allclose(loaded(folder / KINDS[kind][0], images), wanted, **CLOSE)
    how = json.loads((folder / "preprocessing.json").read_text())
    assert (how["channels"], how["side"], how["fit"]) == (1, 8, "crop")
    assert len(json.loads((folder / "clusters.json").read_text())) == 10
    card = (folder / "README.md").read_text()
    assert "float32 (N, 1, 8, 8) in [0, 1], grey" in card and "240 images at 2 sites" in card
    assert KINDS[kind][0] in card and "NMI" in card


def test_what_cannot_be_exported_is_one_line(opened, tmp_path, monkeypatch) -> None:
    with pytest.raises(UserError, match=r"unknown format 'onx': did you mean 'onnx'\?"):
        export(opened, "onx", tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(UserError, match="is not empty"):
        export(opened, "safetensors", tmp_path / "full")
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'covey\[onnx\]'"):
        export(opened, "onnx", tmp_path / "b")


@pytest.fixture(scope="module")
def residual(tmp_path_factory, photographs) -> Path:
    """A run with a network that timm has, for images of side 72."""
    folder = tmp_path_factory.mktemp("residual") / "run"
    options = {"dataset": str(photographs), "side": 72, "encoder": "resnet18", "device": "cpu"}
    plan = recipes.load("fedkmeans-pixels").plan(
        {**options, "sites": 2, "partition": "iid", "clusters": 3}
    )
    simulate(plan, folder)
    return folder


def test_timm_gives_the_same_embeddings(residual, photographs, tmp_path, capsys) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    folder = tmp_path / "exported"
    code, _, err = command(capsys, "export", str(residual), "--to", "timm", "-o", str(folder))
    assert code == 0, err
    encoder = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    how = timm.data.resolve_model_data_config(encoder)
    assert how["crop_pct"] == 1 and how["interpolation"] == "bilinear"
    model = covey.load(residual, "cpu")
    images = model.read(photographs).pixels[:5]
    assert how["input_size"] == images.shape[1:]
    mean, std = (torch.tensor(how[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        found = encoder((torch.from_numpy(images).float() / 255 - mean) / std)
    found = nn.functional.normalize(found, dim=1).numpy()
    np.testing.assert_allclose(found, model.embed(images), **CLOSE)


def test_what_timm_has_not_is_one_line_and_no_folder(opened, tmp_path) -> None:
    with pytest.raises(UserError, match="timm has no small-convnet: --to onnx"):
        export(opened, "timm", tmp_path / "a")
    assert not (tmp_path / "a").exists()
