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
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from client.dataset import shuffled_batches, take
from client.embedding import CHUNK, embed
from client.workbench import mixed_precision, pick_device
from common.augmentations import Augmentation, build_augmentation
from common.config.options import Plan
from common.data import ImageData
from common.models.encoders import Encoder
from common.models.model import Model
from common.record.reader import SETTINGS, read_settings
from common.record.schema import Run
from common.stages import build_stage
from common.utils import seeds
from common.utils.errors import UserError
from common.utils.files import read_note, utf8_path


@dataclass(frozen=True)
class Trained:
    """The networks of a run in evaluation mode.

    `run`: what `run.json` says. `space`: "encoder" or "projector", the output in which the run
    clusters; `centroids` (K, d) lie there, None where they fit no network that is published.
    `untrained`: whether the encoder's parameters are the initial ones.
    """

    run: Run
    plan: Plan
    model: Model
    centroids: Tensor | None
    channels: int
    side: int
    device: torch.device
    untrained: bool

    @property
    def encoder(self) -> Encoder:
        """The encoder alone."""
        return self.model.encoder

    @property
    def space(self) -> str:
        """Where the run's centroids lie."""
        return self.plan.stages[-1].embedding

    def precision(self) -> torch.autocast:
        """Mixed precision where the sites had it on such a device."""
        return mixed_precision(self.plan.precision, self.device)

    def augmentation(self, data: ImageData) -> Augmentation:
        """The augmentation of the data set's own preset."""
        return build_augmentation("auto", data.kind, self.side)

    def check(self, data: ImageData) -> None:
        """`UserError` for images of another shape than the run's."""
        if (data.channels, data.side) != (self.channels, self.side):
            raise UserError(
                f"the encoder takes {self.channels}×{self.side}×{self.side} images, "
                f"these are {data.channels}×{data.side}×{data.side}"
            )

    def embed(self, data: ImageData, space: str = "encoder") -> Tensor:
        """Unit-length outputs (N, d) of all images, as the sites compute them; `UserError` where a
        run has diverged so far that they are not finite."""
        self.check(data)
        images = torch.from_numpy(data.images)
        with self.precision():
            seen = embed(self.model, self.augmentation(data), images, space, self.device)
        if not bool(torch.isfinite(seen.points).all()):
            raise UserError(f"the {space}'s outputs are not finite: the run has diverged")
        return seen.points

    def local_statistics(self) -> list[_BatchNorm]:
        """The BatchNorms whose running statistics stayed at the sites, so that those of the files
        are the initial ones: none but with batchnorm = local."""
        if self.plan.batchnorm != "local":
            return []
        parts = [self.encoder, *([self.model.projector] if self.space == "projector" else [])]
        found = (module for part in parts for module in part.modules())
        return [m for m in found if isinstance(m, _BatchNorm) and m.track_running_stats]

    @torch.no_grad()
    def estimate_statistics(self, data: ImageData) -> None:
        """With batchnorm = local, give the BatchNorms the statistics of `data`, as a site that
        joins with these images has them: means over large batches without augmentation, with the
        parameters fixed (Wu and Johnson, arXiv 2105.07576, section 3). Else nothing is done."""
        norms = self.local_statistics()
        if not norms:
            return
        self.check(data)
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
        images, augmentation = torch.from_numpy(data.images), self.augmentation(data)
        generator = seeds.generator(self.device, self.plan.seed, "statistics")
        self.model.train()
        for rows in shuffled_batches(len(images), CHUNK, generator):
            with self.precision():
                h = self.encoder(augmentation.plain(take(images, rows.cpu(), self.device)))
                if self.space == "projector":
                    self.model.projector(h)
        self.model.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


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
    model = build_stage(plan, len(plan.stages) - 1, channels, side, plan.clusters)
    initial = {key: p.detach().clone() for key, p in model.encoder.named_parameters()}
    _fill(model.encoder, tensors, path)
    if plan.stages[-1].embedding == "projector":
        path = folder / "projector.safetensors"
        _fill(model.projector, _of_this_run(path, facts), path)
    centroids = _centroids(folder / "centroids.safetensors", facts, model, plan)
    place = pick_device(device)
    model.eval().to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    # An encoder without parameters (`pixels`) has nothing to train.
    untrained = bool(initial) and all(torch.equal(tensors[k], p) for k, p in initial.items())
    trained = Trained(run, plan, model, centroids.to(place), channels, side, place, untrained)
    # Each site's centroids are of its own statistics, and those are not here.
    return replace(trained, centroids=None) if trained.local_statistics() else trained


def _centroids(path: Path, facts: Mapping[str, Any], model: Model, plan: Plan) -> Tensor:
    """The federation's centroids (K, d), which must be as wide as the embeddings."""
    points = _of_this_run(path, facts).get("points")
    width = model.width(plan.stages[-1].embedding)
    if points is None or points.shape[1:] != (width,) or not len(points):
        shape = "missing" if points is None else tuple(points.shape)
        raise UserError(f"{path} does not fit the encoder: points is {shape}, width is {width}")
    return points


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


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write `tensors` into the module; `UserError` names the first that does not fit."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise UserError(
                f"{path} does not fit the run's plan: {name} is {found.get(name, 'missing')}, "
                f"expected {wanted.get(name, 'none')}"
            )
    module.load_state_dict(dict(tensors))
