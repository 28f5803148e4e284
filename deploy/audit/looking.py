"""A finished run's networks, looking at the images of an audit.

Encoder outputs are computed once for each different encoder: of a recipe that trains nothing, all
runs have the same one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from client.embedding import embed_outputs, outputs
from client.statistics.knowing import likeness, nearest_landmark
from common.augmentations import build_augmentation
from common.data import ImageData
from common.membership import Scores
from common.models.model import Model
from common.protocol import layout
from common.solvers.landmark_spectral import LandmarkSpectral
from common.stages import trains_projector
from common.utils import seeds
from common.utils.errors import UserError
from deploy.audit.material import Material
from deploy.evaluation.trained import Trained, load_trained
from server.run.folder import RunFolder


@dataclass(frozen=True)
class Kept:
    """Of each encoder, by its digest: `outputs` by the name of the images, `figures` of them."""

    outputs: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Looking:
    """The networks of the run in `folder`, and what is `kept` of those with the same encoder."""

    folder: Path
    trained: Trained
    material: Material
    kept: Kept = field(repr=False)

    @classmethod
    def at(cls, folder: Path, material: Material, kept: Kept) -> "Looking":
        """Open it; `UserError` where it has not finished, or where what it has learned is not the
        coordinator's."""
        trained = load_trained(folder, material.original.settings().device)
        if trained.centroids is None:
            raise UserError(
                f"{folder}: with batchnorm local each site has a model of its own, not here"
            )
        return cls(folder, trained, material, kept)

    @cached_property
    def encoder(self) -> str:
        """A digest of the encoder's numbers."""
        state = self.trained.encoder.state_dict()
        arrays = {name: t.float().ravel().numpy(force=True) for name, t in state.items()}
        return layout.digest_of(arrays)

    @torch.no_grad()
    def outputs(self, name: str, data: ImageData) -> Tensor:
        """h (N, d) of the images called `name`, as they are."""
        if (self.encoder, name) not in self.kept.outputs:
            images, trained = torch.from_numpy(data.images), self.trained
            self.trained.check(data)
            augmentation = build_augmentation("auto", data.kind, trained.side)
            with trained.precision():
                found = list(
                    outputs(
                        trained.model,
                        augmentation,
                        images,
                        torch.arange(len(images)),
                        trained.device,
                    )
                )
            self.kept.outputs[self.encoder, name] = torch.cat(found).float()
        return self.kept.outputs[self.encoder, name]

    @property
    def both(self) -> Mapping[str, ImageData]:
        """The images that an attack tells apart: those that are gone, others of their classes."""
        material = self.material
        return {"gone": material.data.subset(material.gone), "unseen": material.unseen}

    def points(self, name: str, data: ImageData) -> Tensor:
        """Where they lie in the space in which the run clusters: (N, p), of unit length."""
        h = self.outputs(name, data)
        return embed_outputs(self.trained.model, [h], self.trained.space).points

    @property
    def has_landmarks(self) -> bool:
        """Whether the run's last stage has landmarks, which are means of a few images."""
        return isinstance(self.trained.model, LandmarkSpectral)

    def by_landmarks(self) -> Scores:
        """max_j cos(z(x), c_j) over the run's landmarks c_j."""
        model = self.trained.model
        assert isinstance(model, LandmarkSpectral)
        gone, unseen = (nearest_landmark(model, self.outputs(n, d)) for n, d in self.both.items())
        return gone, unseen

    def by_centroids(self) -> Scores:
        """max_k cos(z(x), c_k) over the federation's centroids c_k."""
        centroids = self.trained.centroids
        assert centroids is not None
        gone, unseen = (
            (self.points(name, data) @ centroids.T).max(dim=1).values
            for name, data in self.both.items()
        )
        return gone, unseen

    @property
    def projecting(self) -> Model | None:
        """The last stage's networks with the projector that it has trained, as the coordinator's
        checkpoint has it; None where that stage trains none."""
        model, plan = self.trained.model, self.trained.plan
        if not trains_projector(model, plan.stages[-1]):
            return None
        reached = RunFolder(self.folder).checkpoint()
        assert reached is not None
        layout.load(model.shared(), reached.groups)
        return model.eval()

    def by_views(self, space: str) -> Scores:
        """How alike ten views of an image are in `space` ("encoder" or "projector")."""
        if space == "projector":
            assert self.projecting is not None
        trained = self.trained
        with trained.precision():
            gone, unseen = (
                likeness(
                    trained.model,
                    build_augmentation("auto", data.kind, trained.side),
                    torch.from_numpy(data.images),
                    space,
                    seeds.generator(trained.device, 0, "audit", name),  # all see the same views
                )
                for name, data in self.both.items()
            )
        return gone, unseen
