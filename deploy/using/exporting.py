"""`covey export`: a model for other tools, as a folder with its preprocessing and a model card."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from common.config.encoder import is_onnx
from common.utils.errors import UserError, unknown
from common.utils.files import write_atomic
from deploy.using.card import card
from deploy.using.model import Opened
from deploy.using.timm_model import FILE, timm_model, write_timm

EXAMPLE = 2  # images that a graph is traced with: one would be taken for a constant
OPSET = 18


class Embedder(nn.Module):
    """Images (N, C, S, S) float32 in [0, 1] -> (embeddings (N, d) of unit length, their cosines
    (N, K) with the centroids)."""

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        networks = opened.networks
        self.encoder = networks.model.encoder.as_one()
        self.projector = networks.model.projector if networks.space == "projector" else None
        self.register_buffer("centroids", F.normalize(opened.centroids().float(), dim=1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See above."""
        h = self.encoder(images)
        z = h if self.projector is None else self.projector(h)
        points = F.normalize(z, dim=1)
        return points, points @ self.centroids.T  # type: ignore[operator]


def export(opened: Opened, kind: str, folder: Path) -> Path:
    """Write the model as `kind` (one of `KINDS`) into a new or empty `folder`; the file that other
    tools load. `UserError` where a package is missing, or the folder has something in it."""
    if kind not in KINDS:
        raise unknown("format", kind, KINDS)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and is not empty")
    if is_onnx(opened.networks.plan.encoder):
        raise UserError("the encoder is an ONNX file already, which is not written anew")
    name, write = KINDS[kind]
    path = folder / name
    if kind == TIMM:
        timm_model(opened)  # a mistake is told before a folder is made
    folder.mkdir(parents=True, exist_ok=True)
    write(opened, path)
    _note(folder / "preprocessing.json", preprocessing(opened))
    names = [opened.facts.shown(cluster) for cluster in range(opened.facts.clusters)]
    _note(folder / "clusters.json", names)
    write_atomic(folder / "README.md", card(opened, kind, name).encode())
    return path


def preprocessing(opened: Opened) -> dict[str, Any]:
    """How a picture becomes what the exported model takes."""
    how = json.loads(opened.facts.preprocessing.model_dump_json())
    return {
        **how,
        "resample": "bilinear, antialiased",
        "colours": "RGB" if opened.facts.preprocessing.channels == 3 else "grey",
        "layout": "(N, C, H, W) float32",
        "scale": "each number divided by 255; mean and standard deviation are in the model",
    }


def _traced(opened: Opened) -> tuple[nn.Module, Tensor]:
    """The module, and images that a graph of it is traced with."""
    module = Embedder(opened).cpu().eval().to(memory_format=torch.contiguous_format)
    how = opened.facts.preprocessing
    return module, torch.rand(EXAMPLE, how.channels, how.side, how.side)


def _to_safetensors(opened: Opened, path: Path) -> None:
    module, _ = _traced(opened)
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, path)


def _to_torch_export(opened: Opened, path: Path) -> None:
    module, example = _traced(opened)
    torch.export.save(_program(module, example), path)


def _to_timm(opened: Opened, path: Path) -> None:
    write_timm(opened, path.parent)


def _to_onnx(opened: Opened, path: Path) -> None:
    try:
        import onnx  # noqa: F401, PLC0415 (an extra)
        import onnxscript  # noqa: F401, PLC0415
    except ImportError:
        raise UserError("onnx needs onnx and onnxscript: pip install 'covey[onnx]'") from None
    module, example = _traced(opened)
    torch.onnx.export(
        module,
        (example,),
        path,
        input_names=["images"],
        output_names=["embeddings", "similarity"],
        dynamic_shapes={"images": {0: torch.export.Dim("images_in_batch")}},
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _program(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("images_in_batch")
    return torch.export.export(module, (example,), dynamic_shapes={"images": {0: batch}})


def _note(path: Path, about: object) -> None:
    write_atomic(path, (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())


TIMM = "timm"
KINDS: Mapping[str, tuple[str, Callable[[Opened, Path], None]]] = {
    "onnx": ("model.onnx", _to_onnx),
    "torch-export": ("model.pt2", _to_torch_export),
    "safetensors": ("model.safetensors", _to_safetensors),
    TIMM: (FILE, _to_timm),
}
"""Format -> the file's name, and what writes it."""
