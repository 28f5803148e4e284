"""From `--encoder` and `--weights` to a plan that names its weights by digest, or to one line."""

import hashlib
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision import models

from common.config import recipes
from common.config.checks import check_plan
from common.config.options import Plan
from common.models.pretrained.encoder import Pretrained
from common.models.pretrained.settle import encoder_of, settle_encoder
from common.models.pretrained.store import WeightStore
from common.utils.errors import UserError
from tests.builders.pretrained import OPTIONS, lite0_tensors, write_lite0
from tests.builders.runs import plan

STORE = WeightStore()


@pytest.fixture(scope="module")
def lite0(tmp_path_factory) -> Path:
    return write_lite0(tmp_path_factory.mktemp("lite0"))


def wanted(weights: Path | str, **options: object) -> Plan:
    return plan("covey-exact", rounds="", **{**OPTIONS, "weights": str(weights), **options})


def changed(tmp_path: Path, **tensors: Tensor | None) -> Path:
    """The weights with some others."""
    path = tmp_path / "changed.safetensors"
    given = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    kept = {**lite0_tensors(), **given}
    save_file({name: tensor for name, tensor in kept.items() if tensor is not None}, path)
    return path


def test_the_plan_says_all_that_sites_must_do_alike(lite0: Path) -> None:
    settled = settle_encoder(wanted(lite0), STORE)
    assert settled.weights == hashlib.sha256(lite0.read_bytes()).hexdigest()
    how = settled.network
    assert how is not None
    assert (how.size, how.side, how.crop) == (lite0.stat().st_size, 64, 1.0)
    assert (how.mean, how.std, how.interpolation) == ((0.5,) * 3, (0.5,) * 3, "bicubic")
    assert Plan.from_json(settled.to_json()) == settled == settle_encoder(settled, STORE)
    assert str(lite0) not in settled.to_json()
    check_plan(settled)


@pytest.mark.parametrize(("name", "root"), [("test_efficientnet", False), ("test_resnet", True)])
def test_features_that_are_never_negative_are_taken_by_their_root(
    name: str, root: bool, tmp_path: Path
) -> None:
    network = timm.create_model(name, pretrained=False)
    state = network.state_dict().items()
    save_file({k: t.contiguous() for k, t in state}, tmp_path / "w.safetensors")
    given = wanted(tmp_path / "w.safetensors", encoder=f"timm:{name}", **{"encoder-side": "0"})
    settled = settle_encoder(given, STORE)
    assert settled.network is not None and settled.network.root == root


def test_what_is_trained_has_no_root(lite0: Path) -> None:
    for layer in ("", "blocks.6"):
        options = {"train-from": layer} if layer else {}
        settled = settle_encoder(wanted(lite0, **options), STORE)
        assert settled.network is not None and settled.network.root == (layer == "")


def test_the_encoder_has_the_files_weights(lite0: Path) -> None:
    settled = settle_encoder(wanted(lite0, **{"encoder-side": 0}), STORE)
    assert settled.network is not None and settled.network.side == 224
    encoder = encoder_of(settled, 3, 32, STORE)
    assert isinstance(encoder, Pretrained)
    held = encoder.whole.state_dict()
    assert all(torch.equal(held[k], t) for k, t in load_file(lite0).items() if k in held)


def test_torchvisions_names_take_weights_too(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.safetensors"
    save_file(models.get_model("resnet18", weights=None).state_dict(), path)
    settled = settle_encoder(plan("covey-exact", encoder="resnet18", weights=str(path)), STORE)
    assert settled.encoder == "torchvision:resnet18" and settled.network is not None
    assert (settled.network.side, settled.network.interpolation) == (224, "bilinear")


def test_a_recipe_for_pretrained_encoders_takes_none_silently(lite0: Path) -> None:
    for given in ({}, {"weights": str(lite0)}, {"encoder-side": "64"}):
        with pytest.raises(UserError, match="leaves the encoder to you") as told:
            settle_encoder(recipes.load("covey-pretrained").plan(given), STORE)
        assert "--weights FILE.safetensors" in str(told.value) and "\n" not in str(told.value)


def pickled(folder: Path) -> Path:
    path = folder / "weights.safetensors"
    torch.save(lite0_tensors(), path)
    return path


def cut(folder: Path) -> Path:
    path = write_lite0(folder)
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def nonsense(folder: Path) -> Path:
    path = folder / "nonsense.safetensors"
    path.write_bytes(b"nonsense" * 100)
    return path


SPOILED = {
    "a pickle": (pickled, "is a pickle, whatever its name"),
    "a cut file": (cut, "is no safetensors file, or is damaged"),
    "nonsense": (nonsense, "is no safetensors file, or is damaged"),
    "a folder": (lambda folder: folder, "there is no file"),
    "no file": (lambda folder: folder / "none.safetensors", "there is no file"),
    "grey weights": (
        lambda folder: changed(folder, conv_stem__weight=torch.zeros(32, 1, 3, 3)),
        r"conv_stem.weight is \(32, 1, 3, 3\), expected \(32, 3, 3, 3\)",
    ),
    "a layer missing": (lambda folder: changed(folder, bn2__bias=None), "bn2.bias is missing"),
    "a layer more": (
        lambda folder: changed(folder, extra__weight=torch.zeros(3)),
        "extra.weight is none of them",
    ),
    "no number": (
        lambda folder: changed(folder, bn2__bias=torch.full((1280,), torch.nan)),
        "bn2.bias has NaN",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_another_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    spoil, message = SPOILED[name]
    with pytest.raises(UserError, match=message) as refused:
        settle_encoder(wanted(spoil(tmp_path)), STORE)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": ""}, "timm:tf_efficientnet_lite0 needs --weights"),
        ({"encoder": "timm:resnet18"}, "conv1.weight is missing"),
        ({"encoder": "timm:tf_efficientnet_lite1"}, "blocks.1.2.conv_pw.weight is missing"),
        ({"encoder": "convnet"}, "encoder convnet takes no weights"),
        ({"train-from": "nothing"}, "train-from: no layer 'nothing'"),
        ({"weights": "0" * 64}, "no weights with the SHA-256 000000000000"),
        ({"weights": "", "encoder": "convnet"}, "encoder-side is an option of pretrained"),
    ],
)
def test_what_does_not_go_together_is_one_line(lite0: Path, options, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settle_encoder(wanted(**{"weights": lite0, **options}), STORE)


def test_a_network_of_one_side_takes_no_other(tmp_path: Path, lite0: Path) -> None:
    with pytest.raises(UserError, match="takes images of side 224 alone"):
        settle_encoder(wanted(lite0, encoder="timm:vit_tiny_patch16_224"), STORE)


def test_who_lacks_the_file_says_which(lite0: Path, tmp_path: Path, monkeypatch) -> None:
    settled = settle_encoder(wanted(lite0), STORE)
    monkeypatch.setenv("COVEY_HOME", str(tmp_path / "another machine"))
    monkeypatch.setenv("COVEY_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match=rf"weights of timm:.*{settled.weights[:12]}.*not here"):
        encoder_of(settled, 3, 32, STORE)
    assert encoder_of(settled, 3, 32, None).feature_dim == 1280  # its shape is known without


def test_a_missing_extra_is_one_line(lite0: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'covey\[pretrained\]'"):
        settle_encoder(wanted(lite0), STORE)
