"""The training loop: the local epochs of one round at one site."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from client.dataset import take
from client.workbench import Workbench
from common.config.options import Stage
from common.objectives.base import Batch, LocalRound


@dataclass(frozen=True)
class LocalData:
    """`images` (N, C, H, W) uint8 of a site, `rows` (n,) of those that are trained on."""

    images: Tensor
    rows: Tensor


def train_round(
    bench: Workbench, stage: Stage, stage_round: int, data: LocalData, site: LocalRound
) -> dict[str, float]:
    """Train the workbench's objective for `stage.local_epochs`; the sum of each loss term over the
    images seen, by name."""
    objective, chance = bench.objective.train(), site.chance
    parameters = [p for p in objective.parameters() if p.requires_grad]
    optimiser = build_optimiser(stage, parameters)
    received = [p.detach().clone() for p in parameters] if stage.proximal else []
    n = len(data.rows)
    steps = stage.local_epochs * batches(n, stage.batch_size)
    totals: dict[str, Tensor] = {}
    step, done = 0, (stage_round - 1) / stage.rounds  # done: of the stage
    with bench.precision():
        objective.begin_round(site)
    for _ in range(stage.local_epochs):
        objective.begin_epoch(site)
        objective.train()
        for batch in view_batches(bench, data, stage.batch_size, chance):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(stage, done)
            with bench.precision():
                terms = objective.terms(objective.represent(batch))
            loss = torch.stack(list(terms.values())).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if received:
                pull_back(parameters, received, stage.proximal)
            optimiser.step()
            step += 1
            done = (stage_round - 1 + step / steps) / stage.rounds
            objective.after_step(done)
            for name, term in {"loss": loss, **terms}.items():
                totals[name] = totals.get(name, 0) + term.detach() * len(batch.rows)
    objective.end_round(site)
    return {name: float(total) for name, total in totals.items()}


def view_batches(
    bench: Workbench, data: LocalData, size: int, chance: torch.Generator
) -> Iterator[Batch]:
    """Two views of each training image, in shuffled batches of at most `size`, on the device."""
    shuffled = list(shuffled_batches(len(data.rows), size, chance))
    where = data.rows[torch.cat(shuffled)].to(data.images.device)  # one copy a pass, none a batch
    for rows, index in zip(shuffled, where.tensor_split(len(shuffled)), strict=True):
        images = take(data.images, index, bench.device)
        yield Batch(*bench.views.pair(images, chance), rows, chance)


def learning_rate(stage: Stage, done: float) -> float:
    """The step size when the share `done` in [0, 1) of the stage lies behind; cosine: Loshchilov
    and Hutter, ICLR 2017, eq. 5, without restarts."""
    if stage.schedule == "constant":
        return stage.learning_rate
    return stage.learning_rate * (1 + math.cos(math.pi * done)) / 2


def build_optimiser(stage: Stage, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum; its state lives for one round."""
    if stage.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=stage.learning_rate,
            momentum=stage.momentum,
            weight_decay=stage.weight_decay,
            fused=True,
        )
    return torch.optim.AdamW(
        parameters, lr=stage.learning_rate, weight_decay=stage.weight_decay, fused=True
    )


@torch.no_grad()
def pull_back(parameters: list[torch.nn.Parameter], received: list[Tensor], weight: float) -> None:
    """Add the gradient of μ/2·‖w - w_received‖², FedProx's proximal term (Li et al., MLSys 2020,
    arXiv 1812.06127, eq. 2), to the gradients; parameters without one are left alone."""
    pulled = [(p, r) for p, r in zip(parameters, received, strict=True) if p.grad is not None]
    grads = [p.grad for p, _ in pulled if p.grad is not None]
    away = torch._foreach_sub([p.detach() for p, _ in pulled], [r for _, r in pulled])
    torch._foreach_add_(grads, away, alpha=weight)


def shuffled_batches(n: int, size: int, chance: torch.Generator) -> Iterator[Tensor]:
    """A permutation of 0..n-1 in nearly equal batches of at most `size`: no image is dropped, and
    no batch is left with a single image (which BatchNorm cannot normalise)."""
    order = torch.randperm(n, generator=chance, device=chance.device)
    yield from order.tensor_split(batches(n, size))


def batches(n: int, size: int) -> int:
    """Steps of one pass over n images."""
    return max(1, min(-(-n // size), n // 2))
