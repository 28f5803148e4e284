"""A small head on the fixed features: trained like an encoder, but images are never seen again.

Each image is seen by the fixed encoder in a few views, once; each step draws two of them. What the
head gives takes the place of the encoder's outputs in the closing. A step costs no convolution.
"""

import torch
from _closing import Seen, of_view
from _pooled_training import Training, take_steps
from torch import Tensor, nn

from client.features import STEP, rounded
from common.augmentations import build_augmentation
from common.data import ImageData
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.models.normalisation import normalise
from common.objectives import build_objective

HIDDEN, WIDTH = 1024, 512


class Head(Encoder):
    """Features h (N, d) of unit length -> (N, 512), none negative."""

    def __init__(self, inner: int) -> None:
        super().__init__(nn.Sequential(mlp(inner, HIDDEN, WIDTH), nn.ReLU()), WIDTH)
        self.scale = inner**0.5

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images * self.scale)
        return features


def train_head(
    training: Training,
    fixed: Encoder,
    seen: Seen,
    own: ImageData,
    seed: int,
    views: int,
    device: torch.device,
) -> Encoder:
    """The head after its training on `views` views of each image of `own`, as `fixed` sees them."""
    plan = training.plan(seed)
    drawn = build_augmentation(plan.views, own.kind, own.side)
    images = torch.from_numpy(own.images)
    kept = [of_view(fixed, drawn, images, seed, f"head {n}", device) for n in range(views)]
    cached = torch.stack(kept).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Head(seen.plain.shape[1])
        objective = build_objective(plan.stages[1], head, len(own.classes))
    normalise(objective, plan.normalisation, plan.head_normalisation)

    def pair(rows: Tensor, chance: torch.Generator) -> tuple[Tensor, Tensor]:
        first = torch.randint(views, (len(rows),), generator=chance, device=device)
        apart = torch.randint(1, views, (len(rows),), generator=chance, device=device)
        a, b = (cached[which % views, rows].float() * STEP for which in (first, first + apart))
        return a, b

    return take_steps(training, plan, objective.to(device), len(own.images), pair)


@torch.no_grad()
def through(head: Encoder, seen: Seen, device: torch.device) -> Seen:
    """What the head makes of all features."""

    def outputs(h: Tensor) -> Tensor:
        parts = (part.to(device).float() * STEP for part in h.split(2048))
        return torch.cat([rounded(head(part)).cpu() for part in parts])

    (a, b), (other_a, other_b) = seen.views, seen.others
    views, others = (outputs(a), outputs(b)), (outputs(other_a), outputs(other_b))
    return Seen(outputs(seen.plain), views, others, outputs(seen.test), seen.milliseconds)
