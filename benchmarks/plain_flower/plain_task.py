"""The plain app's network, data and training, as one writes them for a first Flower app: the same
parameters and the same loss as Covey's `fedsimclr` on `convnet`, and nothing but torch imported."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (1, 64, 128, 256)


def make_net() -> nn.Sequential:
    """Encoder and projector for 1×8×8 images."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise(WIDTHS):
        layers += [
            nn.Conv2d(inner, outer, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outer),
            nn.LeakyReLU(0.2),
        ]
    projector = [nn.Linear(256, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), *projector, nn.Linear(256, 128))


def load_images(path: Path) -> tuple[Tensor, Tensor]:
    """A site's training and evaluation images, (N, 1, 8, 8) in [0, 1]."""
    images = torch.from_numpy(np.load(path)).float() / 255
    held = max(2, len(images) // 5)
    return images[held:], images[:held]


def fit(net: nn.Module, images: Tensor) -> float:
    """One epoch of NT-Xent; the mean loss."""
    net.train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    losses = []
    for batch in torch.randperm(len(images)).split(128):
        loss = nt_xent(net, images[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def nt_xent(net: nn.Module, images: Tensor) -> Tensor:
    """NT-Xent with noise as the augmentation."""
    views = torch.cat([images, images])
    z = F.normalize(net(views + 0.1 * torch.randn_like(views)), dim=1)
    logits = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(images)))
