"""A finished run's networks, read back for evaluation where data is local.

The modules are those of the plan's last stage, built as the sites build them, with the published
tensors in them. What does not fit the plan is refused in one line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from client.workbench import pick_device
from common.data import Preparation
from common.record.reader import SETTINGS, read_settings
from common.record.schema import Run
from common.stages import build_stage
from common.utils.errors import UserError
from common.utils.files import read_note, utf8_path
from deploy.evaluation.networks import Networks, check_centroids, fill, weights_near


@dataclass(frozen=True, kw_only=True)
class Trained(Networks):
    """The networks of a run's folder. `run`: what `run.json` says; `untrained`: whether the
    encoder's parameters are the initial ones."""

    folder: Path
    run: Run
    untrained: bool

    @property
    def how(self) -> Preparation:
        """How the files of a folder become its images."""
        return replace(self.plan.preparation, side=self.side, channels=self.channels)


def load_trained(folder: Path, device: str = "auto") -> Trained:
    """Read a run's folder; `UserError` where it is no finished run, or files do not fit."""
    run = read_settings(folder)
    try:
        plan = run.settings()
    except UserError as error:
        raise UserError(f"{folder / SETTINGS}: {error}") from None
    if run.status != "finished":
        raise UserError(f"{folder}: the run has not finished, it is {run.status}")
    path = folder / "encoder.safetensors"
    if not path.exists():
        raise UserError(f"{folder} has no encoder.safetensors: the run has not finished")
    facts, tensors = _read(path)
    try:
        name, channels, side = facts["encoder"], int(facts["channels"]), int(facts["side"])
    except (KeyError, ValueError, TypeError):
        raise UserError(f"{path} does not say for which images its encoder is") from None
    if name != plan.encoder:
        raise UserError(f"{path} is a {name}, the run's plan says {plan.encoder}")
    last = len(plan.stages) - 1
    model = build_stage(plan, last, channels, side, plan.clusters, weights_near(path))
    initial = {key: p.detach().clone() for key, p in model.encoder.named_parameters()}
    fill(model.encoder, tensors, path)
    if plan.stages[-1].embedding == "projector":
        path = folder / "projector.safetensors"
        fill(model.projector, _of_this_run(path, facts), path)
    path = folder / "centroids.safetensors"
    centroids = _of_this_run(path, facts).get("points")
    check_centroids(centroids, model.width(plan.stages[-1].embedding), path)
    place = pick_device(device)
    model.eval().to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    # An encoder without parameters (`pixels`) has nothing to train.
    untrained = bool(initial) and all(torch.equal(tensors[k], p) for k, p in initial.items())
    trained = Trained(
        plan=plan,
        model=model,
        centroids=None if centroids is None else centroids.to(place),
        channels=channels,
        side=side,
        device=place,
        folder=folder,
        run=run,
        untrained=untrained,
    )
    # Each site's centroids are of its own statistics, and those are not here.
    return replace(trained, centroids=None) if trained.local_statistics() else trained


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(what Covey noted in it, its tensors)."""
    try:
        with utf8_path(path) as name, safe_open(name, framework="pt") as file:
            keys = list(file.keys())
            return read_note(file.metadata()), {key: file.get_tensor(key) for key in keys}
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"{path} is damaged: {str(error).splitlines()[0]}") from None


def _of_this_run(path: Path, facts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file that was published together with the encoder."""
    noted, tensors = _read(path)
    if noted != facts:
        raise UserError(f"{path} is of another run than the encoder beside it")
    return tensors
