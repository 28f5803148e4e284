"""One message to a site being answered: what is measured, what is trained, what is sent back."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.embedding import Embedded, Seen, embed, embed_views
from client.statistics import measure
from client.statistics.clusters import local_clusters, nearest
from client.storage.assignments import write_assignments
from client.tasks.train import LocalData, train_round, view_batches
from client.workbench import Workbench
from common.config.options import Stage
from common.objectives.base import Batch, LocalRound
from common.protocol.messages import NEEDS_MODEL, Counts, Instruction, Reply
from common.utils.errors import UserError
from common.utils.seeds import generator

if TYPE_CHECKING:
    from client.trainer import Trainer

Found = TypeVar("Found")


class Work:
    """One message being answered: the trainer, the instruction, the model set up for it, the
    `state` that the site kept. `kept`: after training, what it is to keep."""

    def __init__(
        self,
        trainer: "Trainer",
        instruction: Instruction,
        bench: Workbench,
        state: Mapping[str, Tensor],
    ) -> None:
        self.trainer = trainer
        self.instruction = instruction
        self.bench = bench
        self.state = state
        self.kept: dict[str, Tensor] = {}
        self.plan = instruction.plan
        self.stage: Stage = self.plan.stages[instruction.stage]
        self.min_count = max(self.plan.min_count, trainer.min_count)
        self.train_index, self.held_index = trainer.split(instruction)
        self.labels = self._labels()
        self.seconds: dict[str, float] = {}
        self.sums: dict[str, float] = {"images": len(trainer.images)}

    def _labels(self) -> Tensor | None:
        """The site's labels in the numbering of the federation's classes."""
        own, classes = self.trainer.data.classes, self.instruction.classes
        if self.trainer.labels is None or not classes:
            return None
        if not set(own) <= set(classes):
            raise UserError(f"site {self.trainer.site}: its classes are not among the server's")
        renumber = torch.tensor([classes.index(name) for name in own])
        return renumber.to(self.bench.device)[self.trainer.labels]

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.bench.device.type == "cuda":
            torch.cuda.synchronize(self.bench.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def answer(self) -> Reply:
        """Do what is asked."""
        kind = self.instruction.kind
        if kind == "train":
            return self._reply(self._look() | self._train())
        asked = {
            "prepare": self._prepare,
            "assess": self._look,
            "patches": self._sum_patches,
            "moments": self._sum_moments,
            "landmarks": self._find_landmarks,
            "affinity": self._sum_affinity,
            "lloyd": self._sum_by_centroid,
            "score": self._score,
        }
        return self._reply(asked[kind]())

    def _seen(self) -> Seen:
        """The site's images by the state that the message is about: remembered from an earlier
        message about the same one, or embedded now."""
        instruction, seen = self.instruction, self.trainer.seen
        about = (instruction.plan, instruction.stage, instruction.state)
        if seen is not None and seen[0] == about:
            return seen[1]
        if self.bench.layout.groups and not instruction.groups:
            raise UserError(NEEDS_MODEL)
        found = Seen(self._embed(), self._embed_by(embed_views, self._generator("agreement")))
        self.trainer.seen = (about, found)
        return found

    def _embed(self) -> Embedded:
        return self._embed_by(embed, self.bench.device)

    def _embed_by(self, how: Callable[..., Found], *more: object) -> Found:
        bench, images = self.bench, self.trainer.images
        with self._phase("embed"), bench.precision():
            return how(bench.objective, bench.views, images, self.stage.embedding, *more)

    def _look(self) -> dict[str, Any]:
        """Measure the received state: local clusters and their table, spread, moments, kNN."""
        seen = self._embed() if self.instruction.kind == "train" else self._seen().plain
        with self._phase("cluster"):
            clusters = measure.CLUSTERINGS[self.stage.centroids](
                seen.points,
                self.plan.clusters,
                self.min_count,
                self._generator("clusters"),
            )
            k = len(clusters.centroids.counts)
            tables = {}
            if k:
                tables["local"] = self._table(clusters.labels, k)
            if seen.head is not None:
                tables["head"] = self._table(seen.head, self.plan.clusters)
        moments: dict[str, NDArray[np.float64]] = {}
        if self.instruction.kind == "assess":
            with self._phase("probe"):
                train = self.train_index
                labels = None if self.labels is None else self.labels[train]
                classes = len(self.instruction.classes)
                moments = measure.moments(seen.points[train], labels, classes, self.min_count)
                self._count_knn(seen.points)
        return {
            "centroids": clusters.centroids if k else None,
            "tables": tables,
            "vectors": measure.spread(seen.points),
            "moments": moments,
        }

    def _table(self, clusters: Tensor, k: int) -> Counts:
        return measure.count_table(clusters, self.labels, k, len(self.instruction.classes))

    def _count_knn(self, points: Tensor) -> None:
        if self.labels is None:
            return
        train, held = self.train_index, self.held_index
        correct = measure.knn_correct(
            points[train], self.labels[train], points[held], self.labels[held]
        )
        self.sums |= {"knn_correct": correct, "held": len(held)}

    def _score(self) -> dict[str, Any]:
        """Assign with the merged centroids, count where two views of an image go together and what
        the probe gets right, keep assignments."""
        instruction, centres = self.instruction, self._centres()
        both, k = self._seen(), len(centres)
        seen = both.plain
        with self._phase("score"):
            by_centroid = nearest(seen.points, centres)
            tables = {"centroids": self._table(by_centroid, k)}
            if seen.head is not None:
                tables["head"] = self._table(seen.head, self.plan.clusters)
            first, second = (
                self._chosen(view, nearest(view.points, centres)) for view in both.views
            )
            tables["views"] = measure.count_table(first, second, k, k)
            self.sums["silhouette"] = measure.silhouette(seen.points, centres)
            if self.labels is not None and instruction.probe is not None:
                held = self.held_index
                self.sums["probe_correct"] = measure.probe_correct(
                    seen.points[held], self.labels[held], instruction.probe
                )
                self.sums["held"] = len(held)
        write_assignments(
            self.trainer.folder / instruction.run / "assignments.csv",
            self.trainer.data.names,
            self._chosen(seen, by_centroid).tolist(),
        )
        return {"tables": tables}

    def _chosen(self, seen: Embedded, by_centroid: Tensor) -> Tensor:
        """The clusters (N,) that images are in, as the stage finds them."""
        by_head = self.stage.clusters_from == "head"
        return seen.head if by_head and seen.head is not None else by_centroid

    def _frozen(self, measured: Callable[..., Found], *more: object) -> Found:
        """What one of `measure`'s finds in the training images by the model as it is."""
        bench, images = self.bench, self.trainer.images
        with self._phase("embed"), bench.precision():
            return measured(bench.objective, bench.views, images, self.train_index, *more)

    def _sum_patches(self) -> dict[str, Any]:
        """Moments of the patches that one layer of the encoder sees."""
        asked, device = self.instruction.asked, self.bench.device
        return {"moments": {"gram": self._frozen(measure.patch_moments, asked, device)}}

    def _sum_moments(self) -> dict[str, Any]:
        """Moments of embeddings and of the differences between two views' embeddings."""
        gram, within = self._frozen(measure.view_moments, self._generator("moments"))
        return {"moments": {"gram": gram, "within": within}}

    def _find_landmarks(self) -> dict[str, Any]:
        """Centroids of many small clusters of the site's own."""
        points = self._frozen(measure.solving_points, self.instruction.asked, self.bench.device)
        k = self.bench.objective.landmarks_of(len(points))
        with self._phase("cluster"):
            found = local_clusters(points, k, self.min_count, self._generator("landmarks"))
        return {"centroids": found.centroids if len(found.centroids.counts) else None}

    def _sum_affinity(self) -> dict[str, Any]:
        """Products of two views' weights over all sites' landmarks."""
        chance = self._generator("affinity")
        return {
            "moments": {"affinity": self._frozen(measure.view_affinity, self.min_count, chance)}
        }

    def _sum_by_centroid(self) -> dict[str, Any]:
        """One step of Lloyd's algorithm for each of the sets of K centroids that were sent."""
        points = self._seen().plain.points
        sets = self._centres().split(self.plan.clusters)
        with self._phase("cluster"):
            found = [measure.lloyd_sums(points, s, self.min_count) for s in sets]
        self.sums |= {f"inertia.{i}": step.inertia for i, step in enumerate(found)}
        return {
            "moments": {"sums": np.concatenate([step.sums for step in found])},
            "tables": {"lloyd": np.concatenate([step.counts for step in found])[:, None]},
        }

    def _centres(self) -> Tensor:
        """The centroids (K, d) of the message, on the device."""
        instruction = self.instruction
        if instruction.centroids is None:
            raise UserError(f"{instruction.kind}: the message has no centroids")
        return torch.from_numpy(instruction.centroids.points).to(self.bench.device)

    def _prepare(self) -> dict[str, Any]:
        """What the objective shares before the round."""
        objective = self.bench.objective.eval()
        with self._phase("prepare"), torch.no_grad(), self.bench.precision():
            objective.prepare(self._local_round("prepare"))
        groups = self.bench.shared_groups((objective.prepares,))
        return {"groups": groups, "layout": self.bench.layout.digest}

    def _train(self) -> dict[str, Any]:
        """The local epochs of one round; what is shared afterwards."""
        self.trainer.seen = None
        bench, stage, number = self.bench, self.stage, self.instruction.round
        with self._phase("train"):
            memory = bench.merge(self.state, number, stage)
            data = LocalData(self.trainer.images, self.train_index)
            totals = train_round(bench, stage, self._stage_round, data, self._local_round("train"))
        self.sums |= {f"loss.{name}": total for name, total in totals.items()}
        self.sums["seen"] = len(self.train_index) * stage.local_epochs
        self.kept = bench.own_tensors() | bench.remember(memory, number, stage)
        return {"groups": bench.shared_groups(), "layout": bench.layout.digest}

    @property
    def _stage_round(self) -> int:
        """The message's round, counted from the stage's first, which is 1."""
        return self.instruction.round - self.plan.rounds_before(self.instruction.stage)

    def _local_round(self, purpose: str) -> LocalRound:
        sent, chance = self.instruction.centroids, self._generator(purpose)
        data = LocalData(self.trainer.images, self.train_index)

        def views() -> Iterator[Batch]:
            size = self.stage.batch_size
            return view_batches(self.bench, data, size, self._generator("views"))

        return LocalRound(
            views=views,
            embed=lambda: self._embed().points[self.train_index],
            centroids=None if sent is None else self._centres(),
            chance=chance,
            progress=(self._stage_round - 1) / self.stage.rounds,
            min_count=self.min_count,
        )

    def _reply(self, parts: dict[str, Any]) -> Reply:
        """The answer, with the sums and seconds that were gathered on the way."""
        return Reply(
            kind=self.instruction.kind,
            site=self.trainer.site,
            round=self.instruction.round,
            examples=len(self.train_index),
            sums=self.sums,
            seconds=self.seconds,
            **parts,
        )

    def _generator(self, purpose: str) -> torch.Generator:
        return generator(
            self.bench.device, self.plan.seed, self.trainer.site, self.instruction.round, purpose
        )
