"""A site's part of one step on a batch of all sites' images: means of it, then its gradient."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from client.tasks.task import Task
from common.objectives.base import Objective
from common.objectives.pooled import Pooled, part_of
from common.protocol.messages import Reply
from common.protocol.packing import pack
from common.utils.seeds import derive_seed


def statistics(task: Task) -> Reply:
    """The means of the site's images in the batch that the loss is a function of, or those that the
    exchange of that number is about; nothing where they are too few."""
    objective, images = task.bench.objective.train(), len(task.rows)
    if not images:
        return task.reply(examples=0, layout=task.bench.layout.digest)
    with task.phase("prepare"), torch.no_grad(), task.bench.precision():
        objective.prepare(task.local_round("prepare"))
    groups = task.bench.shared_groups((objective.prepares,))
    return task.reply(examples=images, groups=groups, layout=task.bench.layout.digest)


def gradient(task: Task) -> Reply:
    """The mean over the site's images in the batch of what they add to the gradient of its loss;
    nothing where they are too few."""
    objective, images = task.bench.objective.train(), len(task.rows)
    task.memory.forget()
    if not images:
        return task.reply({"seen": 0}, examples=0, layout=task.bench.layout.digest)
    with task.phase("train"):
        totals = add_gradients(objective, task)
    return task.reply(
        {"seen": images, **{f"loss.{name}": float(total) for name, total in totals.items()}},
        examples=images,
        layout=task.bench.layout.digest,
        **in_form(task),
    )


def in_form(task: Task) -> dict[str, Any]:
    """The gradient as the stage wants it sent."""
    groups, form = task.bench.gradient_groups(), task.stage.gradients
    if form == "float32":
        return {"groups": groups}
    seed = derive_seed(task.plan.seed, task.data.site, task.instruction.round, "rounding")
    rng = np.random.default_rng(seed)
    return {"packed": {name: pack(values, form, rng) for name, values in groups.items()}}


def add_gradients(objective: Objective, task: Task) -> dict[str, Tensor]:
    """Leave the gradients in the parameters; the sum of each loss term over the images."""
    assert isinstance(objective, Pooled)
    objective.zero_grad(set_to_none=True)
    objective.normalise_by_all()
    totals: dict[str, Tensor] = {}
    for batch in task.batches():
        share = len(batch.rows) / len(task.rows)
        with task.bench.precision():
            terms, loss = part_of(objective, objective.represent(batch))
        (loss * share).backward()
        whole = torch.stack(list(terms.values())).sum()
        for name, term in {"loss": whole, **terms}.items():
            totals[name] = totals.get(name, 0) + term.detach() * len(batch.rows)
    return totals
