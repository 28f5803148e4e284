"""The fixed encoder: one image, one set of features, whatever is around it."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import correlate2d
from torch import Tensor

from common.models.encoders import build_encoder
from common.models.noise_filters import (
    CPU_IMAGES,
    FEATURE_STEP,
    Design,
    NoiseFilters,
    as_product,
    convolved,
    filters,
    layer_of,
    whole_pixels,
)
from common.utils.errors import UserError

CHANCE = torch.Generator().manual_seed(0)
FILTERS = {1: "41e93e26965c846e", 3: "4e3292ac2e80ac31"}  # of SHA-256, by channels


def encoder(channels: int, side: int) -> NoiseFilters:
    built = build_encoder("noise-filters", channels, side, seed=0).eval()
    assert isinstance(built, NoiseFilters)
    return built


def pictures(count: int, channels: int, side: int) -> Tensor:
    """Between noise and black."""
    noise = torch.rand(count, channels, side, side, generator=CHANCE)
    return noise * torch.rand(count, 1, 1, 1, generator=CHANCE)


def cells_of(side: int, cells: int = 3) -> list[slice]:
    cells = min(cells, side)
    size = math.ceil(side / cells)
    starts = [math.floor(i * (side - size) / max(cells - 1, 1)) for i in range(cells)]
    return [slice(start, start + size) for start in starts]


def slow_features(image: NDArray[np.float64], layers: list[NDArray[np.float64]]) -> NDArray:
    """Of one image (C, S, S), loop by loop, in float64."""
    maps, found = np.rint(image * 255) - 128, []
    for layer in layers:
        responses = np.array(
            [sum(correlate2d(m, f, "same") for m, f in zip(maps, v, strict=True)) for v in layer]
        )
        whole = max(math.sqrt(np.mean(responses**2)), 2.0**-10)
        own = np.sqrt(np.mean(responses**2, axis=(1, 2), keepdims=True)) + 0.1 * whole
        scale = (1 / (math.sqrt(whole) * np.sqrt(own))).astype(np.float32)
        scaled = (responses.astype(np.float32) * scale).astype(np.float64)
        steps = np.clip(np.rint(scaled * 16) / 16, -16, 16)
        both = np.concatenate([np.maximum(steps, 0), np.maximum(-steps, 0)])
        half = both.shape[1] // 2
        even = both[:, : 2 * half, : 2 * half]
        maps = even.reshape(len(even), half, 2, half, 2).mean(axis=(2, 4))
        windows = cells_of(half)
        sums = np.array([[m[y, x].sum() for y in windows for x in windows] for m in maps]).ravel()
        found.append(np.sqrt(sums / max(sums.sum(), 1e-9)))
    lengths = np.array([1.2, 1.0, 0.8]) / math.sqrt(1.2**2 + 1.0**2 + 0.8**2)
    h = np.concatenate([length * layer for length, layer in zip(lengths, found, strict=True)])
    return np.floor(h / FEATURE_STEP) * FEATURE_STEP


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (1, 28), (3, 15)])
def test_it_gives_what_loops_in_double_precision_give(channels: int, side: int) -> None:
    net, images = encoder(channels, side), pictures(3, channels, side)
    layers = [net.get_buffer(f"filters_{n}").double().numpy() for n in range(3)]
    wanted = np.array([slow_features(image.double().numpy(), layers) for image in images])
    off = np.abs(net(images).double().numpy() - wanted) / FEATURE_STEP
    # The slow version divides by √3 where the other multiplies: a feature may lie on either side.
    assert off.max() <= 1 and (off > 0).mean() < 1e-3


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (3, 80)])
def test_an_image_has_the_same_bits_in_every_batch_order_layout_and_with_any_threads(
    channels: int, side: int
) -> None:
    net, images = encoder(channels, side), pictures(40, channels, side)
    wanted, order = net(images), torch.randperm(40, generator=CHANCE)
    assert torch.equal(torch.cat([net(image[None]) for image in images]), wanted)
    assert torch.equal(net(images[order]), wanted[order])
    assert torch.equal(net(images.contiguous(memory_format=torch.channels_last)), wanted)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(net(images), wanted)
    finally:
        torch.set_num_threads(threads)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net(images), wanted)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_way_of_a_gpu_gives_the_same_bits_in_every_layer(channels: int) -> None:
    maps = whole_pixels(pictures(5, channels, 32), 1)
    for layer in filters(channels, Design()):
        responses = convolved(maps, layer)
        assert torch.equal(as_product(maps, layer), responses)
        assert torch.equal(convolved(maps.double(), layer.double()).float(), responses)
        maps = layer_of(maps, layer, Design())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 9, 28, 33, 63, 64, 96, 224])
def test_features_of_any_side_are_of_unit_length_and_as_wide_as_said(
    channels: int, side: int
) -> None:
    net = encoder(channels, side)
    h = net(pictures(3, channels, side))
    assert h.shape == (3, net.feature_dim)
    assert ((h.norm(dim=1) <= 1) & (h.norm(dim=1) > 0.998)).all()
    assert torch.equal((h / FEATURE_STEP).round(), h / FEATURE_STEP)


def test_a_blank_image_has_finite_features_and_too_small_ones_are_refused_in_one_line() -> None:
    net = encoder(1, 28)
    for grey in (0.0, 128 / 255, 1.0):
        assert net(torch.full((2, 1, 28, 28), grey)).isfinite().all()
    with pytest.raises(UserError, match="needs images of side 8 or more, not 7"):
        build_encoder("noise-filters", 1, 7, seed=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_filters_are_the_same_everywhere_and_nearly_orthonormal(channels: int) -> None:
    layers = filters(channels, Design())
    digest = hashlib.sha256(b"".join(layer.numpy().tobytes() for layer in layers))
    assert digest.hexdigest()[:16] == FILTERS[channels]
    for layer in layers:
        flat = layer.flatten(1)
        assert torch.allclose(flat @ flat.T, torch.eye(len(flat)), atol=0.03)


def test_there_is_nothing_to_train_and_no_seed_decides() -> None:
    one, other = (build_encoder("noise-filters", 1, 8, seed=seed) for seed in (0, 1))
    assert not list(one.parameters())
    for name, buffer in one.named_buffers():
        assert torch.equal(buffer, dict(other.named_buffers())[name])


def test_other_tools_give_the_same_features_of_any_number_of_images(tmp_path: Path) -> None:
    few = Design(widths=(8,), kernels=(3,), cells=1, lengths=(1.0,))
    net = NoiseFilters(1, 64, few).eval()  # of a side that is averaged down first
    images = pictures(CPU_IMAGES + 1, 1, 64)
    batch = {"images": {0: torch.export.Dim("batch")}}
    program = torch.export.export(net.as_one(), (images[:2],), dynamic_shapes=batch)
    for count in (1, len(images)):
        assert torch.equal(program.module()(images[:count]), net(images[:count]))
    pytest.importorskip("onnxscript", reason="onnx and onnxscript are not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = tmp_path / "filters.onnx"
    torch.onnx.export(program, (), path, input_names=["images"], opset_version=18, verbose=False)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    assert torch.equal(found, net(images))
