"""`covey export --to timm`: the encoder as a folder that timm loads by itself.

timm reads `config.json` (architecture, preprocessing) and `model.safetensors` beside it:
`timm.create_model("local-dir:FOLDER")`. Only networks that timm has under the same names of layers
can go: torchvision's residual networks with their usual stem.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from common.config.encoder import RESNETS
from common.learned.facts import Preprocessing
from common.models.encoders import SMALL_SIDE
from common.utils.errors import UserError
from common.utils.files import write_atomic
from deploy.using.model import Opened

FILE = "model.safetensors"
CROPS = {"crop": "center", "squash": "squash", "pad": "border"}


@dataclass(frozen=True)
class TimmModel:
    """A network that timm builds as `architecture`, and how its images are standardised."""

    architecture: str
    network: nn.Module
    width: int
    mean: float
    std: float


def timm_model(opened: Opened) -> TimmModel:
    """The model's encoder as timm has it; `UserError` where timm has no such network."""
    plan, how = opened.networks.plan, opened.facts.preprocessing
    encoder = opened.networks.encoder
    if plan.encoder not in RESNETS:
        raise UserError(
            f"timm has no {plan.encoder}: --to onnx, torch-export or safetensors; timm has "
            f"{', '.join(RESNETS)}"
        )
    if how.side <= SMALL_SIDE:
        raise UserError(
            f"timm's {plan.encoder} has not the stem for images of side {how.side} (3×3, no max "
            f"pooling, up to side {SMALL_SIDE}): --to onnx, torch-export or safetensors"
        )
    if plan.normalisation != "batch":
        raise UserError(
            f"timm's {plan.encoder} has BatchNorm, this one {plan.normalisation}: --to onnx, "
            "torch-export or safetensors"
        )
    return TimmModel(plan.encoder, encoder.network, encoder.feature_dim, encoder.MEAN, encoder.STD)


def write_timm(opened: Opened, folder: Path) -> Path:
    """Write both files into `folder`; the one with the weights."""
    found = timm_model(opened)
    tensors = {name: t.contiguous() for name, t in found.network.state_dict().items()}
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    about = json.dumps(_config(found, opened.facts.preprocessing), indent=2)
    write_atomic(folder / "config.json", about.encode())
    return folder / FILE


def _config(found: TimmModel, how: Preprocessing) -> dict[str, Any]:
    return {
        "architecture": found.architecture,
        "num_classes": 0,
        "num_features": found.width,
        "model_args": {"in_chans": how.channels, "num_classes": 0},
        "pretrained_cfg": {
            "input_size": [how.channels, how.side, how.side],
            "mean": [found.mean] * how.channels,
            "std": [found.std] * how.channels,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": CROPS[how.fit],
            "num_classes": 0,
            "first_conv": "conv1",
            "classifier": "fc",
        },
    }
