"""MoCo v2: a query finds its key among keys of earlier batches, kept in a queue.

Per query q_i with key k_i (both of unit length; the key from the target network):
ℓ_i = -log exp(q_i·k_i/τ) / (exp(q_i·k_i/τ) + Σ_{k in queue} exp(q_i·k/τ)),
L = ½[mean_i ℓ(z_a; t_b) + mean_i ℓ(z_b; t_a)]. The keys of both views enter the queue after the
step, and the oldest leave it; m is constant.
Two things differ from training on one machine with a million images. A site may have fewer images
than the queue has keys: a key of the image itself is no negative. And on one device a query and its
key would be normalised by the same BatchNorm statistics, which the negatives are not: a way to
cheat that the authors close by shuffling images between devices (on CIFAR-10 worth 4 points after
800 epochs; on the digits 20 epochs show no difference). Here the target forwards the batch in
`splits` interleaved parts, so that the statistics differ.
Shared: encoder, projector. Local: the target network and the queue.
Sources: He et al., "Momentum Contrast", CVPR 2020 (arXiv 1911.05722), eqs. 1 and 2, section 3.3;
Chen et al., "Improved Baselines with Momentum Contrastive Learning" (arXiv 2003.04297): the MLP and
τ. Symmetric as an option of the authors' CIFAR-10 demonstration, where it is worth 1 to 3 points.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.losses.contrastive import queue_info_nce
from common.models.encoders import Encoder
from common.objectives.base import Representations
from common.objectives.target import TargetObjective
from common.utils.errors import UserError


@dataclass(frozen=True)
class Parameters:
    """`temperature` τ (2003.04297, table 2); `momentum` m (the authors' CIFAR-10 demonstration;
    .999 for ImageNet's many steps); `queue`: its size in keys (65,536 in the paper, 4,096 in the
    demonstration); `splits`: parts of a batch with their own statistics in the target (the
    authors' 8 devices); `hidden`, `width`: the projector's layers."""

    temperature: float = 0.2
    momentum: float = 0.99
    queue: int = 1024
    splits: int = 8
    hidden: int = 256
    width: int = 128


class Queue(nn.Module):
    """Keys (Q, p) of unit length, the newest first, and which of the site's training images each
    is of, (Q,); -1 where there is no key yet. Buffers, so that the site keeps them."""

    keys: Tensor
    rows: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(size, width))
        self.register_buffer("rows", torch.full((size,), -1))

    @torch.no_grad()
    def push(self, keys: Tensor, rows: Tensor) -> None:
        """Put keys (N, p) of the images `rows` (N,) in front; the last N leave."""
        size = len(self.keys)
        self.keys.copy_(torch.cat([keys, self.keys])[:size])
        self.rows.copy_(torch.cat([rows, self.rows])[:size])

    @torch.no_grad()
    def clear(self) -> None:
        """Leave no key."""
        self.keys.zero_()
        self.rows.fill_(-1)

    def negatives_of(self, rows: Tensor) -> Tensor:
        """(N, Q): whether a key is there, and of another image than the query's (`rows`, (N,))."""
        return (self.rows >= 0) & (self.rows != rows[:, None])


class MoCoV2(TargetObjective):
    """InfoNCE of the online projections against the target's and a queue of earlier ones."""

    name = "moco-v2"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        if parameters.queue < 1 or parameters.splits < 1:
            raise UserError("objective 'moco-v2': queue and splits must be 1 or more")
        self.temperature, self.splits = parameters.temperature, parameters.splits
        self.encoder = encoder
        self.projector = nn.Sequential(
            nn.Linear(encoder.feature_dim, parameters.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(parameters.hidden, parameters.width),
        )
        self.queue = Queue(parameters.queue, parameters.width)
        self._seen: tuple[Tensor, Tensor] | None = None  # keys and rows of the step under way
        self.start_target(parameters.momentum)

    @torch.no_grad()
    def _targets(self, a: Tensor, b: Tensor, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, Tensor]:
        images = torch.cat([a, b])
        parts = min(self.splits, len(images) // 2)  # one image alone could not be normalised
        keys = z_a.new_empty(len(images), z_a.shape[1], dtype=torch.float32)
        for part in range(parts):
            keys[part::parts] = self.target(images[part::parts]).float()
        t_a, t_b = F.normalize(keys, dim=1).chunk(2)
        return t_a, t_b

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        rows, t_a, t_b = seen.batch.rows, seen.t_a, seen.t_b
        self._seen = torch.cat([t_a, t_b]), torch.cat([rows, rows])
        negative = self.queue.negatives_of(rows)
        loss = 0.5 * (
            queue_info_nce(seen.z_a, t_b, self.queue.keys, negative, self.temperature)
            + queue_info_nce(seen.z_b, t_a, self.queue.keys, negative, self.temperature)
        )
        return {"contrast": loss}

    def after_step(self, progress: float) -> None:
        super().after_step(0.0)  # m stays where it starts
        if self._seen is not None:
            self.queue.push(*self._seen)
            self._seen = None

    def local(self) -> dict[str, nn.Module]:
        return {**super().local(), "queue": self.queue}

    def restart_local(self) -> None:
        super().restart_local()
        self.queue.clear()
