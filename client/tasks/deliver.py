"""The end of a run: the site keeps the model that was learned, and a page of its own clusters."""

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from client.gallery import behind
from client.storage.names import RECEIVED, merged, read_names, write_names
from client.tasks.task import Task
from common.learned.facts import Facts, portable_plan, preprocessing_of
from common.learned.file import FILE, LearnedModel, kept_or, learned, read_learned
from common.protocol.messages import Floats, Reply
from common.utils.errors import UserError

LOG = logging.getLogger(__name__)
ROUNDING = 0.01  # of a centroid's length


def deliver(task: Task) -> Reply:
    """Write `model.covey` into the run's folder, and draw `clusters.html` once the site has
    answered; `UserError` where what came is not what this site's own plan and images make of it."""
    facts = checked_facts(task)
    sent = task.instruction.centroids
    assert sent is not None  # it is checked before
    model = learned(facts, _modules(task, facts), sent)
    path = task.store.folder / FILE
    model = _keep(path, model)
    seen = task.plain()
    behind.draw(path, model, seen.points, task.centroids(), task.data)
    return task.reply()


def checked_facts(task: Task) -> Facts:
    """What the server says of the model, as far as this site can tell; `UserError` where it does
    not fit the site's own plan and images."""
    instruction, plan, centroids = task.instruction, task.plan, task.centroids()
    facts = Facts.from_json(instruction.learned)
    last = len(plan.stages) - 1
    if instruction.stage != last or instruction.round != plan.rounds:
        raise UserError("deliver: the run has not ended")
    channels, side = task.data.images.shape[1:3]
    preprocessing = preprocessing_of(plan, channels, side)
    if facts.plan != portable_plan(plan) or facts.preprocessing != preprocessing:
        raise UserError("deliver: the facts are of another plan")
    if facts.space != plan.stages[last].embedding or facts.clusters != instruction.clusters:
        raise UserError("deliver: the facts are of other clusters")
    lengths = centroids.double().norm(dim=1)
    if len(lengths) != instruction.clusters or bool(((lengths - 1).abs() > ROUNDING).any()):
        raise UserError("deliver: the centroids are not of unit length, or not as many as clusters")
    own = bool(task.state) and plan.batchnorm == "local"
    return facts.model_copy(update={"own_statistics": own, "same": (), "split": ()})


def _modules(task: Task, facts: Facts) -> dict[str, dict[str, Floats]]:
    """The tensors of what the message brought, and of the site's own statistics, by module."""
    model = task.bench.model
    modules = {"encoder": _tensors(model.encoder)}
    if facts.space == "projector":
        modules["projector"] = _tensors(model.projector)
    return modules


@torch.no_grad()
def _tensors(module: nn.Module) -> dict[str, NDArray[np.float32]]:
    return {name: t.float().cpu().contiguous().numpy() for name, t in module.state_dict().items()}


def _keep(path: Path, model: LearnedModel) -> LearnedModel:
    """Write the file. Where the same model is there already, what this site has said of its
    clusters stays, and what the federation calls the others now is taken over."""
    there, received = kept_or(path, model), path.with_name(RECEIVED)
    said = model.facts.names
    if there is not model:
        names = merged(there.facts.names, read_names(received), said)
        model = there.with_facts(names=names)
    else:
        model = _named_as_before(path, model)
    model.write(path)
    write_names(received, said)
    LOG.info("run %s: the model is in %s", model.facts.run, path)
    return model


def _named_as_before(path: Path, model: LearnedModel) -> LearnedModel:
    """The model of a run that was made from an earlier one (`covey split`: its name begins with
    that one's), with the names that this site gave to clusters which are still the same."""
    run, names = path.parent.name, list(model.facts.names)
    points = model.part("centroids")["points"]
    for other in sorted(path.parent.parent.glob(f"*/{FILE}")):
        if not run.startswith(f"{other.parent.name}-"):
            continue
        try:
            earlier = read_learned(other)
        except UserError:
            continue
        before = earlier.part("centroids")["points"]
        for number, name in enumerate(earlier.facts.names):
            if number < len(names) and before[number].tobytes() == points[number].tobytes():
                names[number] = name or names[number]
    return model.with_facts(names=names)
