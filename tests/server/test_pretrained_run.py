"""A run with a pretrained encoder, from its file to what a site has of it in the end."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import covey
from client.embedding import in_one_forward
from common.data import load
from common.learned.file import read_learned
from common.record.reader import read_run
from common.utils.errors import UserError
from deploy.engines.runs import checked
from deploy.engines.simulate import simulate
from deploy.using.exporting import export
from deploy.using.model import open_model
from server.report.settings import command, settings
from tests.builders.images import random_images
from tests.builders.pretrained import OPTIONS, write_lite0
from tests.builders.runs import plan, run


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVEY_HOME", str(home))
    monkeypatch.setenv("COVEY_WEIGHTS", str(home / "weights"))


@pytest.fixture(scope="module")
def lite0(home: Path) -> Path:
    (home / "weights").mkdir()
    return write_lite0(home / "weights")


@pytest.fixture
def options(lite0: Path) -> dict[str, str]:
    return {**OPTIONS, "weights": str(lite0), "rounds": ""}


@pytest.fixture(scope="module")
def folder(home: Path, lite0: Path) -> Path:
    """A run of `covey-pretrained` with it, at two sites of different digits."""
    before = dict(os.environ)
    os.environ |= {"COVEY_HOME": str(home), "COVEY_WEIGHTS": str(home / "weights")}
    given = {**OPTIONS, "weights": str(lite0), "rounds": "", "partition": "p-skew(1.0)"}
    given["parameters"] = "width=16 dimensions=16 landmarks=40 images=6"
    simulate(checked(plan("covey-pretrained", **given)), home / "run")
    os.environ.clear()
    os.environ |= before
    return home / "run"


def test_the_run_says_whose_weights_it_has_and_sends_none_of_them(folder: Path) -> None:
    settled = read_run(folder).run.settings()
    assert settled.network is not None and settled.network.side == 64
    assert not load_file(folder / "encoder.safetensors")
    groups = load_file(folder / "checkpoint.safetensors")
    assert not any("encoder" in name for name in groups)
    assert any("three equal channels" in each.text for each in read_run(folder).warnings)
    (note,) = read_run(folder).notes
    assert "chosen without labels: ridge" in note.text and "no projection 0." in note.text
    stage = read_run(folder).stages[-1]
    half = 2 * 4 * 1280 * 1281 / 2  # two symmetric matrices a site, in float32
    assert 2 * half < stage.bytes_up < 2 * half + 500_000
    assert stage.figures["nmi"] > 0.5  # of random features of this side: below .3


def test_the_report_says_which_weights_and_its_command_names_them(folder: Path) -> None:
    record = read_run(folder)
    digest = record.run.settings().weights
    typed = command(record)
    assert f"--weights {digest}" in typed and "--encoder-side 64" in typed
    assert not any("encoder-crop" in part or "train-from" in part for part in typed)
    assert ("weights", f"SHA-256 {digest[:12]}…") in settings(record)


def test_the_model_is_used_by_who_has_the_weights_and_names_them_otherwise(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = folder / "model.covey"
    learned = read_learned(path)
    assert not learned.part("encoder") and path.stat().st_size < 600_000
    images = load("digits").images[:7]
    points = covey.load(path, "cpu").embed(images)
    assert points.shape[0] == 7 and np.allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
    monkeypatch.setenv("COVEY_HOME", str(tmp_path))
    monkeypatch.setenv("COVEY_WEIGHTS", str(tmp_path))
    alone = tmp_path / "sent" / "model.covey"
    alone.parent.mkdir()
    alone.write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"weights of timm:tf_efficientnet_lite0 .*not here"):
        open_model(alone, "cpu")
    open_model(path, "cpu")  # `weights/` of the folder above has them, as a site's


def test_an_export_has_the_weights_inside_and_gives_the_same(folder: Path, tmp_path: Path) -> None:
    images = load("digits").images[:3]
    wanted = covey.load(folder, "cpu").embed(images)
    file = export(open_model(folder, "cpu"), "torch-export", tmp_path / "exported")
    assert "they are inside" in (tmp_path / "exported" / "README.md").read_text()
    given = torch.from_numpy(images.astype(np.float32) / 255)
    found = torch.export.load(file).module()(given)[0].detach().numpy()
    assert np.allclose(found, wanted, atol=1e-4)


def test_timm_loads_the_exported_backbone_and_gives_the_same(folder: Path, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed (covey[pretrained])")
    opened = open_model(folder, "cpu")
    export(opened, "timm", tmp_path / "exported")
    network = timm.create_model(f"local-dir:{tmp_path / 'exported'}", pretrained=True).eval()
    how = timm.data.resolve_model_data_config(network)
    assert how["input_size"] == (3, 64, 64) and how["interpolation"] == "bicubic"
    images = torch.from_numpy(load("digits").images[:3].astype(np.float32) / 255)
    encoder = opened.networks.encoder
    mean, std = (torch.tensor(how[name]).view(3, 1, 1) for name in ("mean", "std"))
    scaled = torch.nn.functional.interpolate(images, (64, 64), mode="bicubic", antialias=True)
    with torch.no_grad():
        found = network((scaled.clamp(0, 1).expand(-1, 3, -1, -1) - mean) / std)
        assert torch.allclose(found, encoder(images).square(), rtol=0, atol=1e-4)
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "(N, 3, 64, 64), standardised" in card and "(N, 1280), whose square roots" in card


def test_training_goes_on_from_a_layer_and_only_its_layers_travel(
    options: dict[str, str], tmp_path: Path, lite0: Path
) -> None:
    more = {"rounds": 1, "train-from": "bn2", "images": 60, "normalisation": "group"}
    given = {**options, **more, "encoder-side": "32"}
    groups = run(tmp_path / "run", "fedsimclr", **given)
    assert len(groups["encoder"]) == 2 * 1280  # scale and shift of one BatchNorm
    tensors = load_file(tmp_path / "run" / "encoder.safetensors")
    before = load_file(lite0)
    assert not np.array_equal(tensors["trained.bn2.weight"], before["bn2.weight"])
    assert covey.load(tmp_path / "run", "cpu").embed(load("digits").images[:2]).shape[0] == 2


def test_the_same_run_without_the_file_ends_in_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = read_run(folder).run.settings()
    monkeypatch.setenv("COVEY_HOME", str(tmp_path))
    monkeypatch.setenv("COVEY_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match=r"site-0: the weights of timm:.*not here"):
        simulate(settled, tmp_path / "run")
    told = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    texts = "".join(each["text"] for each in told)
    assert "not here" in texts and str(tmp_path) not in texts  # no path leaves a site


def test_large_images_are_forwarded_few_at_a_time() -> None:
    """A chunk of views is two times as many float32 pixels as this."""
    for side in (32, 224, 1024):
        images = random_images(2, 3, side)
        pixels = in_one_forward(images) * images[0].numel() * 4
        assert in_one_forward(images) == 1024 or 2**26 < pixels <= 2**27 or side == 1024
    assert in_one_forward(random_images(1, 3, 32)) == 1024
    assert math.isclose(in_one_forward(random_images(1, 3, 224)), 222)
