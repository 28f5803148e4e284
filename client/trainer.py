"""The site's trainer: one message in, one message out.

The same class runs in the resident trainer beside a SuperNode, and in process in a simulation. It
holds the site's images on the device and answers `hello`, `train`, `assess` and `score`
(`common/messages.py`). It knows nothing of Flower's conversation, sockets or files of a run.
"""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from client import measure
from client.assignments import write_assignments
from client.state import StateStore
from client.workshop import Workbench, Workshop
from common.data import ImageData
from common.errors import UserError
from common.messages import Instruction, Reply
from common.options import Stage
from common.seeds import generator


class Trainer:
    """Trains and measures on one site's images.

    `data`: the site's images, which never leave it; `folder`: where its states and cluster
    assignments go.
    """

    def __init__(self, site: str, data: ImageData, folder: Path, workshop: Workshop) -> None:
        if len(data.images) < 2:
            raise UserError(f"site {site}: {len(data.images)} images are too few to train on")
        self.site = site
        self.data = data
        self.folder = folder
        self.workshop = workshop
        device = workshop.device
        self.images = place(torch.from_numpy(data.images), device)
        self.labels = None if data.labels is None else torch.from_numpy(data.labels).to(device)

    def handle(self, instruction: Instruction) -> Reply:
        """Do what is asked; `UserError` where it does not fit this site."""
        if instruction.kind == "hello":
            return self._introduce()
        check_run_name(instruction.run)
        bench = self.workshop.bench(instruction, self.data.channels, self.data.side, self.data.kind)
        store = StateStore(self.folder / instruction.run)
        training = instruction.kind == "train"
        bench.set_up(instruction.groups, store.load(instruction.round + (not training)))
        work = _Work(self, instruction, bench)
        if instruction.kind == "score":
            return work.reply(work.score())
        parts = work.look()
        if training:
            parts |= work.train()
            if own := bench.own_tensors():
                store.save(instruction.round, own)
        return work.reply(parts)

    def _introduce(self) -> Reply:
        data = self.data
        return Reply(
            kind="hello",
            site=self.site,
            round=0,
            examples=len(data.images),
            info={
                "channels": data.channels,
                "side": data.side,
                "kind": data.kind,
                "classes": list(data.classes),
                "fingerprint": data.fingerprint,
                "device": device_name(self.workshop.device),
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
        )

    def split(self, instruction: Instruction) -> tuple[Tensor, Tensor]:
        """Indices of the training and of the evaluation images: fixed over a run."""
        n = len(self.images)
        order = torch.randperm(
            n, generator=generator("cpu", instruction.plan.seed, self.site, "split")
        )
        held = min(max(1, round(n * instruction.plan.evaluation_share)), n - 2)
        order = order.to(self.workshop.device)
        return order[held:], order[:held]


class _Work:
    """One message being answered: the trainer, the instruction, the model set up for it."""

    def __init__(self, trainer: Trainer, instruction: Instruction, bench: Workbench) -> None:
        self.trainer = trainer
        self.instruction = instruction
        self.bench = bench
        self.plan = instruction.plan
        index, self.stage_round = self.plan.stage_of(instruction.round)
        self.stage: Stage = self.plan.stages[index]
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

    def _embed(self) -> measure.Embedded:
        with self._phase("embed"), self._precision():
            return measure.embed(
                self.bench.objective,
                self.bench.views,
                self.trainer.images,
                self.stage.embedding,
                self.bench.device,
            )

    def look(self) -> dict[str, Any]:
        """Measure the received state: local clusters and their table, spread, moments, kNN."""
        seen = self._embed()
        classes = len(self.instruction.classes)
        with self._phase("cluster"):
            clusters = measure.local_clusters(
                seen.points,
                self.plan.clusters,
                self.plan.min_count,
                self._generator("clusters"),
            )
            k = len(clusters.centroids.counts)
            tables = {}
            if k:
                tables["local"] = measure.count_table(clusters.labels, self.labels, k, classes)
            if seen.head is not None:
                tables["head"] = measure.count_table(
                    seen.head, self.labels, self.plan.clusters, classes
                )
        moments = None
        if self.instruction.kind == "assess":
            with self._phase("probe"):
                train = self.train_index
                labels = None if self.labels is None else self.labels[train]
                moments = measure.moments(seen.points[train], labels, classes, self.plan.min_count)
                self._count_knn(seen.points)
        return {
            "centroids": clusters.centroids if k else None,
            "tables": tables,
            "vectors": measure.spread(seen.points),
            "moments": moments,
        }

    def _count_knn(self, points: Tensor) -> None:
        if self.labels is None:
            return
        train, held = self.train_index, self.held_index
        correct = measure.knn_correct(
            points[train], self.labels[train], points[held], self.labels[held]
        )
        self.sums |= {"knn_correct": correct, "held": len(held)}

    def score(self) -> dict[str, Any]:
        """Assign with the merged centroids, count what the probe gets right, keep assignments."""
        instruction = self.instruction
        if instruction.centroids is None:
            raise UserError("score: the message has no centroids")
        seen = self._embed()
        classes, k = len(instruction.classes), len(instruction.centroids.counts)
        with self._phase("score"):
            centres = torch.from_numpy(instruction.centroids.points).to(self.bench.device)
            by_centroid = measure.nearest(seen.points, centres)
            tables = {"centroids": measure.count_table(by_centroid, self.labels, k, classes)}
            if seen.head is not None:
                tables["head"] = measure.count_table(
                    seen.head, self.labels, self.plan.clusters, classes
                )
            self.sums["silhouette"] = measure.silhouette(seen.points, centres)
            if self.labels is not None and instruction.probe is not None:
                held = self.held_index
                self.sums["probe_correct"] = measure.probe_correct(
                    seen.points[held], self.labels[held], instruction.probe
                )
                self.sums["held"] = len(held)
        chosen = seen.head if self.stage.clusters_from == "head" else by_centroid
        if chosen is not None:
            write_assignments(
                self.trainer.folder / instruction.run / "assignments.csv",
                self.trainer.data.names,
                chosen.tolist(),
            )
        return {"tables": tables}

    def train(self) -> dict[str, Any]:
        """The local epochs of one round; what is shared afterwards."""
        bench, stage = self.bench, self.stage
        objective, views = bench.objective.train(), bench.views
        images = self.trainer.images
        chance = self._generator("train")
        optimiser = torch.optim.AdamW(
            [p for p in objective.parameters() if p.requires_grad],
            lr=stage.learning_rate,
            weight_decay=stage.weight_decay,
            fused=True,
        )
        n = len(self.train_index)
        steps = stage.local_epochs * _batches(n, stage.batch_size)
        totals: dict[str, Tensor] = {}
        step = 0
        with self._phase("train"):
            for _ in range(stage.local_epochs):
                for index in shuffled_batches(n, stage.batch_size, chance):
                    rows = self.train_index[index].to(images.device)
                    batch = images[rows].to(bench.device, non_blocking=True)
                    a, b = views.pair(batch, chance)
                    with self._precision():
                        terms = objective.terms(objective.represent(a, b))
                    loss = torch.stack(list(terms.values())).sum()
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()
                    optimiser.step()
                    step += 1
                    objective.after_step((self.stage_round - 1 + step / steps) / stage.rounds)
                    for name, term in {"loss": loss, **terms}.items():
                        totals[name] = totals.get(name, 0) + term.detach() * len(index)
            self.sums |= {f"loss.{name}": float(total) for name, total in totals.items()}
        self.sums["seen"] = n * stage.local_epochs
        return {"groups": bench.shared_groups(), "layout": bench.layout.digest}

    def reply(self, parts: dict[str, Any]) -> Reply:
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

    def _precision(self) -> torch.autocast:
        return torch.autocast(
            self.bench.device.type, dtype=torch.bfloat16, enabled=self.bench.autocast
        )

    def _generator(self, purpose: str) -> torch.Generator:
        return generator(
            self.bench.device, self.plan.seed, self.trainer.site, self.instruction.round, purpose
        )


def shuffled_batches(n: int, size: int, chance: torch.Generator) -> Iterator[Tensor]:
    """A permutation of 0..n-1 in nearly equal batches of at most `size`: no image is dropped, and
    no batch is left with a single image (which BatchNorm cannot normalise)."""
    order = torch.randperm(n, generator=chance, device=chance.device)
    yield from order.tensor_split(_batches(n, size))


def _batches(n: int, size: int) -> int:
    return max(1, min(-(-n // size), n // 2))


def check_run_name(run: str) -> None:
    """`UserError` unless `run` is a plain name: the server must not choose a site's paths."""
    if not run or run.startswith(".") or Path(run).name != run or not run.isprintable():
        raise UserError(f"the server calls its run {run!r}: not a plain name")


def place(images: Tensor, device: torch.device) -> Tensor:
    """The images on the device if they fit into half of what is free there, so that no batch is
    copied in the loop; else in pinned memory of the host, from where a GPU copies fast."""
    if device.type != "cuda":
        return images
    free, _total = torch.cuda.mem_get_info(device)
    return images.to(device) if images.nbytes < free / 2 else images.pin_memory()


def device_name(device: torch.device) -> str:
    """What a table calls the device: "cpu", or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
