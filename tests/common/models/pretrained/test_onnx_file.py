"""A frozen encoder that is an ONNX file: what it gives, and what is refused."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import covey
from common.config.options import Plan
from common.models.pretrained.encoder import Pretrained
from common.models.pretrained.settle import encoder_of, settle_encoder
from common.models.pretrained.store import WeightStore
from common.utils.errors import UserError
from deploy.cli import encoders
from deploy.engines.simulate import simulate
from deploy.using.exporting import export
from deploy.using.model import open_model
from tests.builders.runs import plan

onnx = pytest.importorskip("onnx", reason="onnx is not installed (covey[onnx])")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (covey[onnx])")

STORE = WeightStore()
GIVEN = {"encoder": "onnx:small", "encoder-mean": ".5,.4,.3", "encoder-std": ".25"}


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch) -> None:
    for variable in ("COVEY_HOME", "COVEY_WEIGHTS"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))


def small(path: Path, channels: int = 3, many: object = "many", **how: object) -> Path:
    """A convolution, its positive part, the mean of each map: an ONNX file for images of side
    16."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["maps"], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["means"]),
        helper.make_node("Flatten", ["means"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", kind, [many, channels, 16, 16])],
        [helper.make_tensor_value_info("features", kind, [many, 12])],
        [onnx.numpy_helper.from_array(weights(channels), "w")],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path, **how)
    return path


def weights(channels: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(12, channels, 3, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return small(tmp_path_factory.mktemp("onnx") / "small.onnx")


def wanted(file: Path, **options: object) -> Plan:
    return plan("covey-exact", rounds="", **{**GIVEN, "weights": str(file), **options})


def test_it_gives_what_the_network_gives(file: Path) -> None:
    settled = settle_encoder(wanted(file), STORE)
    assert settled.weights == hashlib.sha256(file.read_bytes()).hexdigest()
    how = settled.network
    assert how is not None and (how.side, how.width, how.std) == (16, 12, (0.25,) * 3)
    assert Plan.from_json(settled.to_json()) == settled == settle_encoder(settled, STORE)
    encoder = encoder_of(settled, 1, 16, STORE)
    assert isinstance(encoder, Pretrained) and not encoder.state_dict()
    images = torch.rand(5, 1, 16, 16)
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), 0.25
    seen = (images.expand(-1, 3, -1, -1) - mean) / std
    maps = F.conv2d(seen, torch.from_numpy(weights(3)), stride=2)
    found = maps.relu().mean((2, 3))
    assert how.root  # none of them is negative
    assert torch.allclose(encoder(images), found.sqrt(), atol=1e-4)


def test_a_file_that_takes_one_image_at_a_time_is_given_each(tmp_path: Path) -> None:
    one = small(tmp_path / "one.onnx", many=1)
    encoder = encoder_of(settle_encoder(wanted(one), STORE), 3, 16, STORE)
    images = torch.rand(3, 3, 16, 16)
    assert torch.allclose(encoder(images)[1:2], encoder(images[1:2]), atol=1e-6)


def test_a_run_with_it_from_the_file_to_clusters(file: Path, tmp_path: Path) -> None:
    simulate(settle_encoder(wanted(file, images=60, clusters=3), STORE), tmp_path / "run")
    points = covey.load(tmp_path / "run", "cpu").embed(np.zeros((2, 1, 8, 8), np.uint8))
    assert np.allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
    with pytest.raises(UserError, match="an ONNX file already"):
        export(open_model(tmp_path / "run", "cpu"), "onnx", tmp_path / "exported")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"encoder-side": "32"}, "takes side 16 alone"),
        ({"encoder-mean": "1,2"}, "encoder-mean '1,2': one number, or three"),
        ({"encoder-std": "0"}, "not above 0"),
        ({"train-from": "conv"}, "an ONNX encoder is frozen"),
        ({"encoder": "timm:resnet18"}, "encoder-mean is an option of ONNX encoders alone"),
    ],
)
def test_options_that_do_not_fit_are_told_in_one_line(file: Path, options, why: str) -> None:
    with pytest.raises(UserError, match=why) as told:
        settle_encoder(wanted(file, **options), STORE)
    assert "\n" not in str(told.value)


def grey(folder: Path) -> Path:
    return small(folder / "grey.onnx", channels=1)


def damaged(folder: Path) -> Path:
    (folder / "damaged.onnx").write_bytes(b"\x08\x07nothing")
    return folder / "damaged.onnx"


def elsewhere(folder: Path) -> Path:
    """A file whose numbers lie in another one."""
    place = {"save_as_external_data": True, "size_threshold": 0, "location": "numbers.bin"}
    return small(folder / "elsewhere.onnx", **place)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (grey, "takes images .*, not"),
        (damaged, "no ONNX file that onnxruntime reads"),
        (elsewhere, "no ONNX file that onnxruntime reads"),
    ],
)
def test_a_file_that_is_no_encoder_is_told_in_one_line(
    made, why: str, tmp_path: Path, monkeypatch
) -> None:
    path = made(tmp_path)
    monkeypatch.chdir(tmp_path)  # where other files would be looked for
    with pytest.raises(UserError, match=why) as told:
        settle_encoder(wanted(path), STORE)
    assert "\n" not in str(told.value)


def test_a_file_that_was_exchanged_is_not_run(file: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes(file.read_bytes())
    settled = settle_encoder(wanted(own), STORE)
    own.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="not here"):
        encoder_of(settled, 3, 16, STORE)


def test_it_is_listed_with_its_side_and_width(file: Path) -> None:
    settle_encoder(wanted(file), STORE)
    (found,) = (each for each in STORE.all() if each.path == file)
    line = encoders._of_file(found, time_them=False)
    assert (line.name, line.side, line.width) == ("onnx:small", 16, 12)
