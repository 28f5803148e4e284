"""One message to a site being answered: what every exchange's function gets."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from client.batch import batches_of_step, rows_of_step
from client.dataset import Dataset, view_batches
from client.embedding import (
    About,
    Embedded,
    Memory,
    Seen,
    embed,
    embed_outputs,
    embed_pairs,
    embed_views,
)
from client.features import Features
from client.statistics.knowing import Recalled
from client.storage.features import FeatureStore
from client.storage.state import StateStore
from client.workbench import Workbench
from common.config.options import Plan, Stage
from common.objectives.base import Batch, LocalRound
from common.protocol.messages import NEEDS_MODEL, Instruction, Reply
from common.utils import seeds
from common.utils.errors import UserError

Found = TypeVar("Found")


@dataclass(frozen=True)
class Task:
    """One message, and what the site answers it with.

    `bench`: the model, set up as the message wants it; `data`: the site's images; `state`: what it
    kept from its last round, `store`: where it keeps that; `memory`: its images as embedded for an
    earlier message, `projected`: as landmarks are made of them; `kept`: a fixed encoder's outputs;
    `min_count`: the fewest images behind what it sends. For exchanges about images that were taken
    back and no other: `forgotten` (m, C, H, W) uint8, those that may be used so, and `stayed`, rows
    of images that were beside them and still take part; `recalled`: what an audit of such images
    has found so far. `seconds`: by phase, as they are spent.
    """

    instruction: Instruction
    bench: Workbench
    data: Dataset
    state: Mapping[str, Tensor]
    store: StateStore
    memory: Memory[Seen]
    projected: Memory[Tensor]
    kept: FeatureStore
    min_count: int
    forgotten: Tensor | None = None
    stayed: Tensor | None = None
    recalled: Recalled = field(default_factory=Recalled)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """The run's plan."""
        return self.instruction.plan

    @property
    def stage(self) -> Stage:
        """The message's stage."""
        return self.plan.stages[self.instruction.stage]

    @property
    def stage_round(self) -> int:
        """The message's round, counted from the stage's first, which is 1."""
        return self.instruction.round - self.plan.rounds_before(self.instruction.stage)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Inside, time counts as `name`."""
        start = time.perf_counter()
        yield
        if self.bench.device.type == "cuda":
            torch.cuda.synchronize(self.bench.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def generator(self, purpose: str) -> torch.Generator:
        """All that is random about this message's `purpose`: the same whenever it is answered."""
        return seeds.generator(
            self.bench.device, self.plan.seed, self.data.site, self.instruction.round, purpose
        )

    def centroids(self) -> Tensor:
        """The centroids (K, d) of the message, on the device."""
        instruction = self.instruction
        if instruction.centroids is None:
            raise UserError(f"{instruction.kind}: the message has no centroids")
        return torch.from_numpy(instruction.centroids.points).to(self.bench.device)

    def sets(self) -> tuple[Tensor, ...]:
        """The sets of centroids (k, d) of the message."""
        centroids, plan = self.centroids(), self.plan
        sizes = self.instruction.sets or (plan.clusters,) * (len(centroids) // plan.clusters)
        return torch.split(centroids, list(sizes))

    def embed(self) -> Embedded:
        """The site's images by the model as it is."""
        return self._embed_by(embed, self.bench.device)

    @property
    def about(self) -> About:
        """What the message is about."""
        return (self.instruction.plan, self.instruction.stage, self.instruction.state)

    def plain(self) -> Embedded:
        """The site's images by the state that the message is about, without views of them:
        remembered, or embedded now."""
        seen = self.memory.recall(self.about)
        return self.embed() if seen is None else seen.plain

    def seen(self) -> Seen:
        """The site's images by the state that the message is about: remembered from an earlier
        message about the same one, or embedded now."""

        def looked() -> Seen:
            return self._seen_kept() if self.keeps_features else self._seen_anew()

        return self.remembered(self.memory, looked)

    def remembered(self, memory: Memory[Found], made: Callable[[], Found]) -> Found:
        """What is in the `memory` about the message's state, or what is `made` now; `UserError`
        where that takes a model, and the message has none."""
        found = memory.recall(self.about)
        if found is None:
            if self.bench.layout.groups and not self.instruction.groups:
                raise UserError(NEEDS_MODEL)
            found = made()
            memory.keep(self.about, found)
        return found

    @property
    def keeps_features(self) -> bool:
        """Whether the stage is about encoder outputs that are computed once."""
        return self.stage.features == "kept"

    def features(self) -> Features:
        """The site's images by the encoder, which is fixed."""
        return Features(self.bench, self.plan, self.data.images, self.kept)

    def _seen_anew(self) -> Seen:
        return Seen(self.embed(), self._embed_by(embed_views, self.generator("agreement")))

    def _seen_kept(self) -> Seen:
        features, embedding, model = self.features(), self.stage.embedding, self.bench.model
        with self.phase("embed"):
            return Seen(
                embed_outputs(model, features.plain(), embedding),
                embed_pairs(model, features.other_views(), embedding),
            )

    def _embed_by(self, how: Callable[..., Found], *more: object) -> Found:
        bench, images = self.bench, self.data.images
        with self.phase("embed"), bench.precision():
            return how(bench.model, bench.augmentation, images, self.stage.embedding, *more)

    def in_training_images(self, measured: Callable[..., Found], *more: object) -> Found:
        """What `measured` finds in the training images by the model as it is."""
        bench, images = self.bench, self.data.images
        with self.phase("embed"), bench.precision():
            return measured(bench.model, bench.augmentation, images, self.data.train, *more)

    @cached_property
    def rows(self) -> Tensor:
        """Which training images are in the batch that a synchronous stage's step is about; none
        where they are fewer than may be told of."""
        steps = self.instruction.steps
        rows = rows_of_step(self.data, self.plan, self.instruction.stage, self.stage_round, steps)
        return rows if len(rows) >= self.min_count else rows[:0]

    def batches(self) -> Iterator[Batch]:
        """Their views."""
        number = self.instruction.round
        return batches_of_step(self.data, self.bench.augmentation, self.rows, self.plan, number)

    def local_round(self, purpose: str) -> LocalRound:
        """What an objective may look at; its generator is for `purpose`."""
        sent = self.instruction.centroids

        def views() -> Iterator[Batch]:
            if self.stage.synchronous:
                return self.batches()
            size = self.stage.batch_size
            return view_batches(self.data, self.bench.augmentation, size, self.generator("views"))

        return LocalRound(
            views=views,
            embed=lambda: self.embed().points[self.data.train],
            centroids=None if sent is None else self.centroids(),
            generator=self.generator(purpose),
            progress=(self.stage_round - 1) / self.stage.rounds,
            min_count=self.min_count,
            step=self.instruction.step,
        )

    def reply(
        self, sums: Mapping[str, float] | None = None, examples: int | None = None, **parts: Any
    ) -> Reply:
        """The answer with these `parts` of a `Reply`, its sums, and the seconds that were spent;
        `examples`: how many images are behind it, all training images where it does not say."""
        return Reply(
            kind=self.instruction.kind,
            site=self.data.site,
            round=self.instruction.round,
            examples=len(self.data.train) if examples is None else examples,
            sums={"images": len(self.data.images), **(sums or {})},
            seconds=self.seconds,
            **parts,
        )
