"""Images that a site has taken back are unlearned where they are, as the message says.

That is the one use that is made of them. They stand beside the images that the site trains on: rows
0 .. n - 1 are these, n .. n + m - 1 the forgotten. Each step is one of the method's loss
(`common/unlearning/`) on a batch of each. The passes end early when views of the forgotten images
are no more alike than those of images that were kept for evaluation, which nobody trained on.
"""

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from client.dataset import Dataset, shuffled_batches, take
from client.tasks.task import Task
from common.clustering.kmeans import kmeans
from common.losses.unlearning import alignment
from common.objectives.base import Batch, LocalRound, Objective, Representations
from common.optimisers import build_optimiser, learning_rate
from common.protocol.messages import Reply
from common.unlearning import from_text
from common.unlearning.base import Side, Unlearning
from common.utils.errors import UserError, plain

LOG = logging.getLogger(__name__)
STEEPEST = 1.0  # the most that a gradient's length may be: a loss that is ascended has no end


def unlearn(task: Task) -> Reply:
    """The model after it; `UserError` where too few images were taken back to be told of alone."""
    (method, _), forgotten = from_text(task.instruction.about), task.forgotten
    least = max(2, task.min_count)
    if forgotten is None or len(forgotten) < least:
        count = 0 if forgotten is None else len(forgotten)
        raise UserError(
            f"{count} images were given to be unlearned, and what leaves has to be of at least "
            f"{least}: another method (exact-sums, fine-tune, retrain) needs none of them"
        )
    LOG.info("run %s: %d images to be unlearned", plain(task.instruction.run), len(forgotten))
    with task.phase("train"):
        _Unlearner.of(task, method, forgotten).run()
    return task.reply(groups=task.bench.shared_groups(), layout=task.bench.layout.digest)


@dataclass(frozen=True)
class _Unlearner:
    """`both`: the images that are kept, then those that are `forgotten`."""

    task: Task
    method: Unlearning
    both: Dataset
    forgotten: int
    site: LocalRound

    @classmethod
    def of(cls, task: Task, method: Unlearning, forgotten: Tensor) -> "_Unlearner":
        data = task.data
        kept = data.images[data.train.to(data.images.device)]
        images = torch.cat([kept, forgotten.to(kept.device)])
        rows = torch.arange(len(images), device=data.train.device)
        both = replace(data, images=images, labels=None, names=(), train=rows, held=rows[:0])
        site = replace(task, data=both).local_round("unlearn")
        return cls(task, method, both, len(forgotten), replace(site, progress=cls.done(task)))

    @staticmethod
    def done(task: Task) -> float:
        """The share of the stage that lies behind: all but the last round, which comes after."""
        return (task.stage.rounds - 1) / task.stage.rounds

    @property
    def kept(self) -> int:
        """Images that are not forgotten."""
        return len(self.both.train) - self.forgotten

    def run(self) -> None:
        """All passes."""
        task, parameters = self.task, self.method.parameters
        objective = task.bench.objective.train()
        trained = [p for p in objective.parameters() if p.requires_grad]
        optimiser = build_optimiser(task.stage, trained)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(task.stage, self.done(task))
        with task.bench.precision():
            objective.begin_round(self.site)
        retained = self._retained()
        for _ in range(parameters.epochs):
            objective.begin_epoch(self.site)
            labels = self._labels()
            objective.train()
            for rows in shuffled_batches(self.forgotten, task.stage.batch_size, self._generator):
                for kept in itertools.islice(retained, parameters.retained):
                    with task.bench.precision():
                        loss = self._loss(objective, labels, rows + self.kept, kept)
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()
                    nn.utils.clip_grad_norm_(trained, STEEPEST)
                    optimiser.step()
                    objective.after_step(self.done(task))
            if self._are_as_unseen(objective):
                break
        objective.end_round(self.site)

    @property
    def _generator(self) -> torch.Generator:
        return self.site.generator

    def _retained(self) -> Iterator[Tensor]:
        """Rows of one batch after the other of those that are kept, shuffled in each pass."""
        while True:
            yield from shuffled_batches(self.kept, self.task.stage.batch_size, self._generator)

    def _labels(self) -> Tensor:
        if not self.method.by_cluster:
            return torch.zeros_like(self.both.train)
        points = self.site.embed()
        clusters = min(self.task.plan.clusters, len(points))
        return kmeans(points, clusters, generator=self._generator, spherical=True).labels

    def _loss(self, objective: Objective, labels: Tensor, gone: Tensor, kept: Tensor) -> Tensor:
        with statistics_as_they_are(objective):
            forgotten = Side(self._seen(objective, gone), labels[gone.to(labels.device)])
        retained = Side(self._seen(objective, kept), labels[kept.to(labels.device)])
        terms = self.method.terms(objective, forgotten, retained)
        return torch.stack(list(terms.values())).sum()

    def _seen(self, objective: Objective, rows: Tensor) -> Representations:
        return objective.represent(self._views(self.both.images, rows, self._generator))

    def _views(self, images: Tensor, rows: Tensor, generator: torch.Generator) -> Batch:
        batch = take(images, rows.to(images.device), self.both.device)
        return Batch(*self.task.bench.augmentation.pair(batch, generator), rows, generator)

    @torch.no_grad()
    def _are_as_unseen(self, objective: Objective) -> bool:
        """Whether views of the forgotten are no more alike than those of images that were kept for
        evaluation, in the projector's space, which remembers most."""
        data, held = self.task.data, self.task.data.held
        gone = self._likeness(objective, self.both.images, self.both.train[self.kept :])
        return gone <= self._likeness(objective, data.images, held)

    def _likeness(self, objective: Objective, images: Tensor, rows: Tensor) -> float:
        objective.eval()
        generator = self.task.generator("likeness")
        total = 0.0
        for part in rows.split(self.task.stage.batch_size):
            with self.task.bench.precision():
                views = self._views(images, part, generator)
                z = objective.projector(objective.encoder(torch.cat([views.a, views.b])))
            total += float(alignment(*z.chunk(2))) * len(part)
        return total / max(1, len(rows))


@contextmanager
def statistics_as_they_are(model: nn.Module) -> Iterator[None]:
    """Inside, no running statistic takes in what is forwarded."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum
