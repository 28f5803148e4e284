"""`covey gallery`: the clusters of a folder's pictures, as a page that stays on this machine."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from client.gallery import gallery
from client.gallery.choice import Seen, mapped
from client.statistics.assigned import assign
from common.learned.facts import Facts
from deploy.using.embedding import embedded
from deploy.using.model import Opened
from deploy.using.pictures import Pictures

Columns = list[NDArray[np.generic]]


@dataclass(frozen=True)
class Shown:
    """A gallery with all that its page needs; the page is written anew when names are given."""

    content: gallery.Gallery
    identity: str
    title: str
    model: Path

    def page(self, facts: Facts, save: str = "") -> str:
        """The page, with the clusters called as `facts` says."""
        command = shlex.join(["covey", "name", str(self.model), "names.json"])
        return gallery.render(self.content, facts, self.identity, self.title, command, save)


def show(opened: Opened, pictures: Pictures, title: str, console: Console) -> Shown:
    """The gallery of all `pictures`; `UserError` where none can be read, or each site has centroids
    of its own."""
    centroids, seed = opened.centroids(), opened.networks.plan.seed
    names: list[str] = []
    columns: list[Columns] = []
    points: list[NDArray[np.float32]] = []
    wanted = {pictures.names[row] for row in mapped(len(pictures.names), seed)}
    sample: list[int] = []
    for chunk in embedded(opened, pictures, console):
        if not len(chunk.points):
            continue
        found = assign(chunk.points, centroids)
        parts = (found.cluster, found.runner_up, found.distance, found.confidence)
        columns.append([part.cpu().numpy() for part in parts])
        drawn = [row for row, name in enumerate(chunk.data.names) if name in wanted]
        sample += [len(names) + row for row in drawn]
        points.append(chunk.points.cpu().numpy()[drawn])
        names += chunk.data.names
    cluster, runner_up, distance, confidence = map(np.concatenate, zip(*columns, strict=True))
    seen = Seen(names, cluster, runner_up, distance, confidence)

    def look(rows: Sequence[int], side: int) -> Sequence[NDArray[np.uint8]]:
        return list(_look(pictures, names, rows, side))

    made = gallery.build(
        seen, np.array(sample, np.int64), np.concatenate(points), look, opened.facts.clusters, seed
    )
    return Shown(made, opened.identity, title, opened.path)


def _look(
    pictures: Pictures, names: Sequence[str], rows: Sequence[int], side: int
) -> Iterator[NDArray[np.uint8]]:
    yield from pictures.look([names[row] for row in rows], side)
