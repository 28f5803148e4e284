"""`covey neighbours`: the pictures of a folder that a model finds most like one picture.

Every picture is compared: a product of (N, d) with (d,) takes milliseconds for 100,000 pictures,
less than any index over them would take to be read.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from common.data.decoding import read_file
from common.data.images import ImageData
from common.data.pil import quietly
from common.utils.errors import UserError
from common.utils.names import original, printable
from deploy.using.embedding import embedded, is_embeddings, read_embeddings, say_unreadable
from deploy.using.model import Opened
from deploy.using.pictures import pictures


@dataclass(frozen=True)
class Neighbour:
    """A picture by its name, and its cosine similarity in [-1, 1]."""

    name: str
    similarity: float


def neighbours(
    opened: Opened, image: Path, among: str, count: int, console: Console
) -> list[Neighbour]:
    """The `count` pictures of a folder, or of an .npz that `covey embed` wrote, most like `image`,
    the nearest first; `UserError` where that cannot be read."""
    query = _embed_one(opened, image)
    if is_embeddings(Path(among)):
        written_names, points = read_embeddings(Path(among), opened)
        names = [original(name) for name in written_names]
    else:
        names, points = _embed_all(opened, among, console)
    near = points @ query
    order = np.argsort(-near, kind="stable")[:count]
    return [Neighbour(names[row], float(near[row])) for row in order]


def _embed_one(opened: Opened, image: Path) -> NDArray[np.float32]:
    how = opened.facts.preprocessing.preparation
    with quietly():
        pixels = read_file(image, how) if image.is_file() else None
    if pixels is None:
        raise UserError(f"{printable(str(image))} is no picture that can be read")
    data = ImageData(pixels[None], None, (), (image.name,), "natural")
    points = opened.networks.embed(data, opened.networks.space)
    return np.asarray(points[0].cpu().numpy(), np.float32)


def _embed_all(
    opened: Opened, among: str, console: Console
) -> tuple[list[str], NDArray[np.float32]]:
    names: list[str] = []
    parts: list[NDArray[np.float32]] = []
    unreadable: list[str] = []
    for chunk in embedded(opened, pictures(among, opened.facts.preprocessing), console):
        names += chunk.data.names
        parts.append(chunk.points.cpu().numpy())
        unreadable += chunk.unreadable
    say_unreadable(console, unreadable)
    return names, np.concatenate(parts)
