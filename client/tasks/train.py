"""A round at one site: what the objective prepares for it, and the local epochs."""

from itertools import islice

import torch
from torch import Tensor

from client.dataset import Dataset, ahead, batches, view_batches
from client.tasks.measure import look
from client.tasks.task import Task
from client.workbench import Workbench
from common.config.options import Stage
from common.objectives.base import LocalRound
from common.optimisers import build_optimiser, learning_rate
from common.protocol.messages import Reply


def prepare(task: Task) -> Reply:
    """What the objective shares before the round."""
    objective = task.bench.objective.eval()
    with task.phase("prepare"), torch.no_grad(), task.bench.precision():
        objective.prepare(task.local_round("prepare"))
    groups = task.bench.shared_groups((objective.prepares,))
    return task.reply(groups=groups, layout=task.bench.layout.digest)


def train(task: Task) -> Reply:
    """Measure the state as received, then train it: the round's local epochs. What the site needs
    in its next round is kept, what it shares is sent."""
    parts = look(task, task.embed())
    task.memory.forget()
    bench, stage, number = task.bench, task.stage, task.instruction.round
    with task.phase("train"):
        memory = bench.merge(task.state, number, stage)
        site = task.local_round("train")
        totals, seen = train_round(bench, stage, task.stage_round, task.data, site)
    sums = {"seen": seen, **{f"loss.{name}": total for name, total in totals.items()}}
    kept = bench.own_tensors() | bench.remember(memory, number, stage)
    if kept:
        task.store.save(number, kept)
    return task.reply(sums, groups=bench.shared_groups(), layout=bench.layout.digest, **parts)


def train_round(
    bench: Workbench, stage: Stage, stage_round: int, data: Dataset, site: LocalRound
) -> tuple[dict[str, float], int]:
    """Train the workbench's objective for `stage.local_epochs`, or for `stage.local_steps`; the sum
    of each loss term over the images seen, by name, and their number."""
    objective, generator = bench.objective.train(), site.generator
    parameters = [p for p in objective.parameters() if p.requires_grad]
    optimiser = build_optimiser(stage, parameters)
    received = [p.detach().clone() for p in parameters] if stage.proximal else []
    steps = stage.local_steps or stage.local_epochs * batches(len(data.train), stage.batch_size)
    totals: dict[str, Tensor] = {}
    step, seen, done = 0, 0, (stage_round - 1) / stage.rounds  # done: of the stage
    with bench.precision():
        objective.begin_round(site)
    while step < steps:
        objective.begin_epoch(site)
        objective.train()
        made = view_batches(data, bench.augmentation, stage.batch_size, generator)
        for batch in islice(ahead(made, data.device), steps - step):
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
            step, seen = step + 1, seen + len(batch.rows)
            done = (stage_round - 1 + step / steps) / stage.rounds
            objective.after_step(done)
            for name, term in {"loss": loss, **terms}.items():
                totals[name] = totals.get(name, 0) + term.detach() * len(batch.rows)
    objective.end_round(site)
    return {name: float(total) for name, total in totals.items()}, seen


@torch.no_grad()
def pull_back(parameters: list[torch.nn.Parameter], received: list[Tensor], weight: float) -> None:
    """Add the gradient of μ/2·‖w - w_received‖², FedProx's proximal term (Li et al., MLSys 2020,
    arXiv 1812.06127, eq. 2), to the gradients; parameters without one are left alone."""
    pulled = [(p, r) for p, r in zip(parameters, received, strict=True) if p.grad is not None]
    grads = [p.grad for p, _ in pulled if p.grad is not None]
    away = torch._foreach_sub([p.detach() for p, _ in pulled], [r for _, r in pulled])
    torch._foreach_add_(grads, away, alpha=weight)
