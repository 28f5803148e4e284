"""Writes a run folder as a run would leave it, with figures drawn from a seed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.config import recipes
from common.record.reader import EVENTS, MAP, SETTINGS
from common.record.schema import EVENT, FORMAT, Event

PHASES = {"load": 0.05, "views": 0.7, "train": 2.4, "evaluate": 0.4, "cluster": 0.2, "send": 0.1}


class SampleRun:
    """A run of `recipe` over `sites` sites; change it before `write` to make another one.

    `rounds`: how many have ended (None: all); `classes`: 0 for a run without labels; `plan`:
    options of the run.
    """

    def __init__(
        self,
        sites: int = 4,
        clusters: int = 10,
        classes: int = 10,
        rounds: int | None = None,
        recipe: str = "fedmcc",
        seed: int = 0,
        plan: Mapping[str, Any] | None = None,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.names = [f"site-{index}" for index in range(sites)]
        self.clusters = clusters
        self.classes = [str(index) for index in range(classes)]
        options = {"sites": sites, "clusters": clusters, "seed": seed, **(plan or {})}
        self.plan = recipes.load(recipe).plan(options)
        self.rounds = self.plan.rounds if rounds is None else rounds
        self.run = self._run()
        self.events = self._events()
        self.map: dict[str, Any] | None = None

    def write(self, folder: Path) -> Path:
        """Write the folder and return it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS).write_text(json.dumps(self.run, indent=2), encoding="utf-8")
        lines = "".join(json.dumps(event) + "\n" for event in self.events)
        (folder / EVENTS).write_text(lines, encoding="utf-8")
        if self.map is not None:
            (folder / MAP).write_text(json.dumps(self.map), encoding="utf-8")
        return folder

    @property
    def typed(self) -> list[Event]:
        """The events as a reader gives them."""
        return [EVENT.validate_python(event) for event in self.events]

    def with_map(self, images: int = 1200) -> "SampleRun":
        """Add a map of embeddings: one blob per class (or cluster)."""
        groups = len(self.classes) or self.clusters
        middles = self.rng.normal(0, 6, (groups, 2))
        labels = self.rng.integers(0, groups, images)
        points = middles[labels] + self.rng.normal(0, 1, (images, 2))
        self.map = {
            "x": points[:, 0].round(3).tolist(),
            "y": points[:, 1].round(3).tolist(),
            "cluster": self.rng.permutation(groups)[labels].tolist(),
            "class": labels.tolist() if self.classes else None,
            "method": "t-SNE",
            "images": images,
        }
        return self

    def _run(self) -> dict[str, Any]:
        sizes = self.rng.integers(120, 600, len(self.names)).tolist()
        return {
            "format": FORMAT,
            "id": f"20261123-204501-{self.plan.recipe}",
            "created": "2026-11-23T20:45:01+0000",
            "recipe": self.plan.recipe,
            "engine": "processes",
            "status": "finished" if self.rounds == self.plan.rounds else "running",
            "plan": self.plan.model_dump(mode="json", by_alias=True),
            "versions": {"covey": "0.1.0", "flwr": "1.41.0", "torch": "2.14.0", "python": "3.11.7"},
            "partition": {"spec": self.plan.partition, "hash": "9f2c41d07be8a356", "sizes": sizes},
            "sites": {
                name: {
                    "examples": size, "channels": 1, "side": 8, "device": "cpu",
                    "fingerprint": self.rng.bytes(8).hex(),
                }
                for name, size in zip(self.names, sizes, strict=True)
            },
            "classes": self.classes,
            "parameters": 774_016,
        }  # fmt: skip

    def _events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        for number in range(1, self.rounds + 1):
            events.append(self._round(number))
            index, stage_round = self.plan.stage_of(number)
            if stage_round == self.plan.stages[index].rounds:
                events.append(self._stage(index, number))
        return events

    def _round(self, number: int) -> dict[str, Any]:
        index, stage_round = self.plan.stage_of(number)
        drop = 3.2 * np.exp(-number / 4) + 1.1 + self.rng.normal(0, 0.03)
        loss = {"loss": drop, "contrast": drop}
        if index == 1:
            loss |= {"loss": drop + 1.4, "cluster": 1.7 - 0.1 * stage_round, "entropy": 0.08}
        seconds = {k: float(v * self.rng.uniform(0.8, 1.3)) for k, v in PHASES.items()}
        wait = float(self.rng.uniform(0.2, 1.5))
        return {
            "event": "round",
            "format": FORMAT,
            "round": number,
            "stage": index,
            "stage_name": self.plan.stages[index].name,
            "stage_round": stage_round,
            "time": 1_795_466_700.0 + 9 * number,
            "loss": {k: round(float(v), 4) for k, v in loss.items()},
            "answered": list(self.names),
            "missing": [],
            "refused": {},
            "received": self._scores(number - 1),
            "cluster_sizes": self._sizes(),
            "bytes_down": 3_100_000 * len(self.names),
            "bytes_up": 3_180_000 * len(self.names),
            "seconds": {"total": wait + sum(seconds.values()), "wait": wait, **seconds},
        }

    def _stage(self, index: int, number: int) -> dict[str, Any]:
        table = self._table()
        labelled = {"knn": 0.962, "linear": 0.941 + 0.01 * index} if self.classes else {}
        return {
            "event": "stage",
            "stage": index,
            "stage_name": self.plan.stages[index].name,
            "round": number,
            "time": 1_795_466_705.0 + 9 * number,
            "format": FORMAT,
            "by": self.plan.stages[index].clusters_from,
            "figures": {
                **self._scores(number),
                **labelled,
                "agreement": 0.731,
                "silhouette": 0.312,
                "effective_rank": 23.41,
            },
            **({"table": table.tolist()} if self.classes else {}),
            "answered": list(self.names),
            "missing": [],
            "refused": {},
            "cluster_sizes": table.sum(axis=1).tolist() if self.classes else self._sizes(),
            "bytes_down": 3_100_000 * len(self.names),
            "bytes_up": 90_000 * len(self.names),
            "seconds": {"total": 1.9, "wait": 0.4, "evaluate": 1.5},
        }

    def _scores(self, number: int) -> dict[str, float]:
        rise = 1 - np.exp(-number / 4)
        scores = {"std": 0.9 - 0.1 * rise, "entropy": 0.9 + 0.08 * rise}
        if self.classes:
            jitter = self.rng.normal(0, 0.008)
            top = {"acc": 0.3 + 0.55 * rise, "nmi": 0.28 + 0.5 * rise, "ari": 0.12 + 0.6 * rise}
            scores |= {name: value + jitter for name, value in top.items()}
            scores["purity"] = scores["acc"] + 0.02
        return {name: round(float(value), 6) for name, value in scores.items()}

    def _sizes(self) -> list[int]:
        return [int(n) for n in self.rng.integers(80, 240, self.clusters)]

    def _table(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        classes = max(1, len(self.classes))
        table = self.rng.poisson(3, (self.clusters, classes))
        places = self.rng.permutation(self.clusters)
        for cluster, place in enumerate(places):
            table[cluster, place % classes] += self.rng.integers(60, 190)
        return table
