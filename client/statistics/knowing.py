"""How well a model seems to know an image: the scores that an audit of forgetting attacks with.

What stands for groups of images remembers those that it was made of: an image lies near a landmark
or a centroid that it is in. What an encoder was trained with long, it holds together in all views
(EMIA: Liu et al., CCS 2021, arXiv 2108.11023).
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from client.embedding import embed_outputs, view_outputs
from common.augmentations import Augmentation
from common.membership import Scores
from common.models.model import Model
from common.protocol.recall import Recall
from common.solvers.landmark_spectral import LandmarkSpectral

VIEWS = 10  # of an image: as EMIA has it


@dataclass
class Recalled:
    """What a site has found in the audit that goes on: scores by model and attack, and how many
    sums made anew are what they must be."""

    about: tuple[str, Recall] | None = None
    scores: dict[int, dict[str, Scores]] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)

    def of(self, run: str, about: Recall) -> "Recalled":
        """The same, empty if it was another audit."""
        if self.about != (run, about):
            self.about, self.scores, self.sums = (run, about), {}, {}
        return self


@torch.no_grad()
def nearest_landmark(solver: LandmarkSpectral, h: Tensor) -> Tensor:
    """The largest cosine (N,) between the projections of encoder outputs `h` (N, d) and a
    landmark."""
    landmarks = F.normalize(solver.weights.scores.weight[solver.weights.used], dim=1)
    return (F.normalize(solver.projection(h), dim=1) @ landmarks.T).max(dim=1).values


@torch.no_grad()
def likeness(
    model: Model,
    augmentation: Augmentation,
    images: Tensor,
    space: str,
    generator: torch.Generator,
) -> Tensor:
    """The mean cosine (N,) of all pairs of `VIEWS` views of each of the `images` (N, C, H, W) in
    `space`, "encoder" or "projector": (‖Σ v‖² - n) / (n (n - 1)) for n views v of unit length."""
    rows = torch.arange(len(images))
    total = torch.zeros((), device=generator.device)
    for _ in range(VIEWS // 2):
        chunks = view_outputs(model, augmentation, images, rows, generator)
        parts = [h.chunk(2) for h in chunks]
        for half in (0, 1):
            h = torch.cat([part[half] for part in parts])
            total = total + embed_outputs(model, [h], space).points
    return (total.square().sum(dim=1) - VIEWS) / (VIEWS * (VIEWS - 1))
