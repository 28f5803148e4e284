"""A finished run's encoder, read back for evaluation where data is local."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from client import measure
from client.workshop import pick_device
from common.data import ImageData
from common.encoders import Encoder, build_encoder
from common.errors import UserError
from common.files import read_note
from common.options import Plan
from common.views import build_views
from server.run_folder import RunFolder


@dataclass(frozen=True)
class Trained:
    """The run's plan, its encoder in evaluation mode, and the centroids on encoder outputs (None
    where the last stage's centroids lie in the projector's space)."""

    plan: Plan
    encoder: Encoder
    centroids: Tensor | None
    channels: int
    side: int
    device: torch.device

    @torch.no_grad()
    def embed(self, data: ImageData) -> Tensor:
        """Unit-length encoder outputs (N, d) of all images."""
        if (data.channels, data.side) != (self.channels, self.side):
            raise UserError(
                f"the encoder takes {self.channels}×{self.side}×{self.side} images, "
                f"these are {data.channels}×{data.side}×{data.side}"
            )
        views = build_views("auto", data.kind, self.side)
        images = torch.from_numpy(data.images)
        chunks = [
            F.normalize(self.encoder(views.plain(chunk.to(self.device))), dim=1).float()
            for chunk in images.split(measure.CHUNK)
        ]
        return torch.cat(chunks)


def load_trained(folder: Path) -> Trained:
    """Read a run's folder; `UserError` where it is no finished run, or files do not fit."""
    plan = RunFolder(folder).plan()
    path = folder / "encoder.safetensors"
    if not path.exists():
        raise UserError(f"{folder} has no encoder.safetensors: the run has not finished")
    try:
        facts, tensors = _read(path)
        channels, side = int(facts["channels"]), int(facts["side"])
        if facts["encoder"] != plan.encoder:
            raise UserError(f"{path} is a {facts['encoder']}, the run's plan says {plan.encoder}")
        encoder = build_encoder(plan.encoder, channels, side, seed=0)
        encoder.load_state_dict(tensors)
        _, centroids = _read(folder / "centroids.safetensors")
    except UserError:
        raise
    except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
        raise UserError(
            f"{folder}: the results do not fit ({str(error).splitlines()[0]})"
        ) from None
    device = pick_device("auto")
    in_encoder_space = plan.stages[-1].embedding == "encoder"
    return Trained(
        plan,
        encoder.eval().to(device),
        centroids["points"].to(device) if in_encoder_space else None,
        channels,
        side,
        device,
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        return read_note(file.metadata()), tensors
