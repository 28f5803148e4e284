"""A model's networks in evaluation mode, built as the sites build them, for images of here."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from client.dataset import shuffled_batches, take
from client.embedding import CHUNK, embed
from client.workbench import check_size, mixed_precision, pick_device
from common.augmentations import Augmentation, build_augmentation
from common.config.options import Plan
from common.data import ImageData
from common.learned.file import LearnedModel
from common.models.encoders import Encoder
from common.models.model import Model
from common.models.pretrained.store import WEIGHTS, WeightStore
from common.stages import build_stage
from common.utils import seeds
from common.utils.errors import UserError


@dataclass(frozen=True)
class Networks:
    """The networks of a run in evaluation mode.

    `space`: "encoder" or "projector", the output in which the run clusters; `centroids` (K, d) lie
    there, None where they fit no network that is published. `own_statistics`: whether BatchNorms
    have a site's own running statistics, where the plan keeps them local.
    """

    plan: Plan
    model: Model
    centroids: Tensor | None
    channels: int
    side: int
    device: torch.device
    own_statistics: bool = False

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
        if self.plan.batchnorm != "local" or self.own_statistics:
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


def load_networks(learned: LearnedModel, path: Path, device: str = "auto") -> Networks:
    """The networks of a `model.covey` that was read from `path`; `UserError` where its tensors are
    not those of its own plan."""
    facts = learned.facts
    try:
        plan = facts.settings()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    channels, side = facts.preprocessing.channels, facts.preprocessing.side
    last = len(plan.stages) - 1
    check_size(plan, last, channels, side)
    model = build_stage(plan, last, channels, side, plan.clusters, weights_near(path))
    fill(model.encoder, as_tensors(learned.part("encoder")), path)
    if facts.space == "projector":
        fill(model.projector, as_tensors(learned.part("projector")), path)
    points = as_tensors(learned.part("centroids")).get("points")
    check_centroids(points, model.width(facts.space), path)
    if points is not None and len(points) != facts.clusters:  # not the plan's number after a split
        raise UserError(f"{path}: {facts.clusters} names for {len(points)} clusters")
    place = pick_device(device)
    model.eval().to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = Networks(
        plan=plan,
        model=model,
        centroids=None if points is None else points.to(place),
        channels=channels,
        side=side,
        device=place,
        own_statistics=facts.own_statistics,
    )
    # Each site's centroids are of its own statistics, and those are not here.
    return replace(found, centroids=None) if found.local_statistics() else found


def weights_near(path: Path) -> WeightStore:
    """Where the weights of a model in the file `path` are looked for, too: beside it, and in the
    folder of the site that it was sent to."""
    return WeightStore((path.absolute().parent, path.absolute().parent.parent / WEIGHTS))


def as_tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """NumPy's arrays as torch's tensors."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def check_centroids(points: Tensor | None, width: int, path: Path) -> None:
    """`UserError` unless the centroids (K, d) are as wide as the embeddings."""
    if points is None or points.shape[1:] != (width,) or not len(points):
        shape = "missing" if points is None else tuple(points.shape)
        raise UserError(f"{path} does not fit the encoder: points is {shape}, width is {width}")


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
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
