"""`covey export --to timm`: the encoder as a folder that timm loads by itself.

timm reads `config.json` (architecture, preprocessing) and `model.safetensors` beside it:
`timm.create_model("local-dir:FOLDER")`. Only networks that timm has under the same names of layers
can go: its own, and torchvision's residual networks with their usual stem.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from common.config.encoder import RESNETS, library_of
from common.learned.facts import Preprocessing
from common.models.encoders import SMALL_SIDE
from common.models.pretrained.encoder import Pretrained
from common.utils.errors import UserError
from common.utils.files import write_atomic
from deploy.using.model import Opened

FILE = "model.safetensors"
CROPS = {"crop": "center", "squash": "squash", "pad": "border"}


LAYERS = {"first_conv": "conv1", "classifier": "fc"}  # of a residual network
OF_TIMM = ("first_conv", "classifier", "pool_size", "fixed_input_size")
"""What timm's own configuration says of its networks, and its loader wants to know."""
Three = tuple[float, ...]


@dataclass(frozen=True)
class TimmModel:
    """A network that timm builds as `architecture`, and how its images are standardised: (C, side,
    side), scaled by `interpolation` after `crop` of the side was cut out. `root`: features are the
    square roots of what it gives. `facts`: more of timm's configuration."""

    architecture: str
    network: nn.Module
    width: int
    channels: int
    side: int
    mean: Three
    std: Three
    interpolation: str = "bilinear"
    crop: float = 1.0
    root: bool = False
    facts: Mapping[str, Any] = field(default_factory=lambda: LAYERS)


def timm_model(opened: Opened) -> TimmModel:
    """The model's encoder as timm has it; `UserError` where timm has no such network."""
    plan, how = opened.networks.plan, opened.facts.preprocessing
    encoder = opened.networks.encoder
    if isinstance(encoder, Pretrained):
        return _pretrained(plan.encoder, encoder)
    if plan.encoder not in RESNETS:
        raise _none(plan.encoder)
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
    mean, std = ((value,) * how.channels for value in (encoder.MEAN, encoder.STD))
    size = (how.channels, how.side)
    return TimmModel(plan.encoder, encoder.network, encoder.feature_dim, *size, mean, std)


def _pretrained(called: str, encoder: Pretrained) -> TimmModel:
    """Of a network whose weights are from a file, frozen layers and all."""
    library, name = library_of(called)
    if library != "timm" and name not in RESNETS:
        raise _none(called)
    how, network = encoder.how, encoder.whole
    own: Mapping[str, Any] = getattr(network, "pretrained_cfg", LAYERS)
    facts = {key: own[key] for key in OF_TIMM if own.get(key)}
    architecture = name.partition(".")[0]  # what follows says whose weights timm would fetch
    return TimmModel(
        architecture=architecture,
        network=network,
        width=encoder.feature_dim,
        channels=3,
        side=how.side,
        mean=how.mean,
        std=how.std,
        interpolation=how.interpolation,
        crop=how.crop,
        root=how.root,
        facts=facts,
    )


def _none(called: str) -> UserError:
    return UserError(
        f"timm has no {called}: --to onnx, torch-export or safetensors; timm has its own "
        f"(timm:NAME), {', '.join(RESNETS)}"
    )


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
        "model_args": {"in_chans": found.channels, "num_classes": 0},
        "pretrained_cfg": {
            **found.facts,
            "input_size": [found.channels, found.side, found.side],
            "mean": list(found.mean),
            "std": list(found.std),
            "interpolation": found.interpolation,
            "crop_pct": found.crop,
            "crop_mode": CROPS[how.fit],
            "num_classes": 0,
        },
    }
