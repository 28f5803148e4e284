"""`covey neighbours`: the pictures of a folder that a model finds most like one picture.

Every picture is compared: a product of (N, d) with (d,) takes milliseconds for 100,000 pictures,
less than any index over them would take to be read.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from common.data.decoding import decode_one, pictures_in
from common.data.images import ImageData
from common.data.pil import quietly
from common.record.account import LeftOut
from common.utils.errors import UserError
from common.utils.names import original, printable
from deploy.using.embedding import embedded, read_embeddings
from deploy.using.model import Opened
from deploy.using.pictures import Pictures


@dataclass(frozen=True)
class Neighbour:
    """A picture by its name, and its cosine similarity in [-1, 1]."""

    name: str
    similarity: float


def neighbours(
    opened: Opened, image: Path, among: Path | Pictures, count: int, console: Console
) -> list[Neighbour]:
    """The `count` pictures, of a folder or of an .npz that `covey embed` wrote, most like `image`
    (of a stack: its first page), the nearest first; `UserError` where that cannot be read."""
    query = _embed_one(opened, image)
    if isinstance(among, Path):
        written_names, points = read_embeddings(among, opened)
        names = [original(name) for name in written_names]
    else:
        chunks = list(embedded(opened, among, console))
        names = [name for chunk in chunks for name in chunk.data.names]
        points = np.concatenate([chunk.points.cpu().numpy() for chunk in chunks])
    near = points @ query
    order = np.argsort(-near, kind="stable")[:count]
    return [Neighbour(names[row], float(near[row])) for row in order]


def _embed_one(opened: Opened, image: Path) -> NDArray[np.float32]:
    how = opened.facts.preprocessing.preparation
    if not image.is_file():
        raise UserError(f"{printable(str(image))}: there is no such picture")
    with quietly():
        found = pictures_in(image.parent, image.name, how)
        pixels = found if isinstance(found, LeftOut) else decode_one(found[0], how)
    if isinstance(pixels, LeftOut):
        raise UserError(f"{printable(str(image))} is no picture that can be read: {pixels.why}")
    data = ImageData(pixels[None], None, (), (image.name,), "natural")
    points = opened.networks.embed(data, opened.networks.space)
    return np.asarray(points[0].cpu().numpy(), np.float32)
