"""`covey encoders`: which there are, whose weights are here, and what an image costs on this
machine."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rich.console import Console

from common.config.encoder import ENCODERS, is_onnx, library_of
from common.models.encoders import FIXED, Encoder, build_encoder
from common.models.pretrained.library import (
    BUILDERS,
    NOT_STATED,
    Architecture,
    architecture,
    networks,
    numbers,
)
from common.models.pretrained.onnx_file import OnnxNetwork, onnx_architecture
from common.models.pretrained.store import Found, WeightStore
from common.models.pretrained.weights import licence_in
from common.utils.errors import UserError
from deploy.terminal.table import show_table

ANY = 224  # the side of an ONNX file that takes any
SIDE = 32  # of the images that our own networks are timed with
TIMED, PATIENCE = 16, 1.0  # images in one forward; seconds for one network, about
OURS = "trained by the run"
KNOWN = (
    "timm:tf_efficientnet_lite0",
    "timm:resnet18",
    "timm:resnet50",
    "timm:convnext_tiny",
    "timm:vit_small_patch14_dinov2",
    "torchvision:resnet18",
    "torchvision:resnet50",
    "torchvision:convnext_tiny",
)
"""Networks that are often started from; any other of these libraries will do."""


@dataclass(frozen=True)
class Line:
    """One encoder. `weights`: the file with them, or why there is none; `licence`: of a file here
    as its own header states it, else of the library's own weights as that does."""

    name: str
    side: int
    parameters: int
    width: int
    weights: str
    sha256: str
    licence: str
    milliseconds: float | None


def find_encoders(console: Console, text: str) -> list[dict[str, Any]]:
    """Print and return all names of pretrained networks that hold `text`."""
    found = [name for library in BUILDERS for name in networks(library) if text in name]
    for name in found:
        console.print(name, highlight=False, markup=False)
    return [{"name": name} for name in found]


def list_encoders(console: Console, quick: bool = False) -> list[dict[str, Any]]:
    """Print and return one row per encoder: our own, those whose weights are here, and some known
    ones; with what an image takes on one CPU, but for `quick`."""
    lines = list(_lines(not quick))
    heads = ("encoder", "weights", "side", "parameters", "d", "licence", "ms/image")
    cells = [
        (
            line.name,
            line.weights,
            str(line.side or "any"),
            f"{line.parameters:,}",
            f"{line.width:,}",
            line.licence,
            "–" if line.milliseconds is None else f"{line.milliseconds:.1f}",
        )
        for line in lines
    ]
    show_table(console, heads, cells, numbers=("side", "parameters", "d", "ms/image"))
    store = WeightStore()
    for text in (
        f"Weights: {store.places}; --encoder NAME --weights FILE names another. None is fetched.",
        "Grey images go into a pretrained encoder as three equal channels.",
        f"ms/image: on this CPU, at the encoder's side; where it takes any, at {SIDE} pixels.",
        "licence: what a file states itself; of files that are not here, what the library states.",
    ):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    return [asdict(line) for line in lines]


def _lines(time_them: bool) -> Iterator[Line]:
    for name in ENCODERS:
        encoder = build_encoder(name, 3, SIDE, 0)
        taken = _milliseconds(encoder, SIDE) if time_them else None
        of = "none" if name in FIXED else OURS
        width = encoder.feature_dim
        yield Line(name, 0, numbers(encoder), width, of, "", "Covey's", taken)
    here = WeightStore().all()
    for found in here:
        yield _of_file(found, time_them)
    used = {found.encoder for found in here}
    for name in KNOWN:
        if name not in used:
            yield _of_library(name)


def _of_file(found: Found, time_them: bool) -> Line:
    if not found.encoder:
        weights = f"{found.path} (not used yet)"
        return Line("?", 0, 0, 0, weights, found.digest, NOT_STATED, None)
    try:
        built = _architecture(found)
    except UserError as error:
        text = f"{found.path} ({error})"
        return Line(found.encoder, 0, 0, 0, text, found.digest, NOT_STATED, None)
    network = built.network.eval()
    taken = _milliseconds(network, built.side) if time_them else None
    size, width = numbers(network), built.width
    where, licence = str(found.path), licence_in(found.path)
    return Line(found.encoder, built.side, size, width, where, found.digest, licence, taken)


def _architecture(found: Found) -> Architecture:
    if not is_onnx(found.encoder):
        return architecture(found.encoder)
    network = OnnxNetwork()
    side = network.open(found.path.read_bytes(), "the file") or ANY
    return replace(onnx_architecture(network.width(side, "the file"), side), network=network)


def _of_library(name: str) -> Line:
    library = library_of(name)[0]
    try:
        with torch.device("meta"):
            built = architecture(name)
    except UserError:
        missing = f"not here; {library} is not installed"
        return Line(name, 0, 0, 0, missing, "", NOT_STATED, None)
    size = numbers(built.network)
    return Line(name, built.side, size, built.width, "not here", "", built.licence, None)


@torch.no_grad()
def _milliseconds(network: torch.nn.Module | Encoder, side: int) -> float:
    """Of one image on this CPU, as the fastest of a few forwards had it."""
    network = network.eval().to(memory_format=torch.channels_last)
    images = torch.rand(TIMED, 3, side, side).contiguous(memory_format=torch.channels_last)
    best, begun = float("inf"), time.perf_counter()
    while True:
        started = time.perf_counter()
        network(images)
        best = min(best, time.perf_counter() - started)
        if time.perf_counter() - begun > PATIENCE:
            return 1000 * best / TIMED
