"""A model over all pictures of a folder, with a bar that says how far it is."""

from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from common.data import ImageData
from common.data.decoding import Found
from common.record.account import Account, LeftOut
from common.utils.errors import UserError
from common.utils.names import is_utf8, printable, written
from deploy.using.model import Opened
from deploy.using.pictures import Pictures

EMBEDDINGS = "embeddings"  # the array of an .npz that `covey embed` wrote
MINE = ".npz"


@dataclass(frozen=True)
class Embedded:
    """Pictures that could be read: `data` as the model takes them, `points` (N, d); and the files
    that could not, `left`."""

    data: ImageData
    points: Tensor
    left: tuple[LeftOut, ...]


def embedded(
    opened: Opened, pictures: Pictures, console: Console, without: Collection[str] = ()
) -> Iterator[Embedded]:
    """All pictures but those called `without`, chunk by chunk; then what became of every file is
    said. `UserError` where none can be read, or the model needs statistics of more of them than a
    chunk."""
    networks = opened.networks
    if networks.local_statistics():
        raise UserError(
            f"{opened.path}: with batchnorm local each site keeps its own statistics: take the "
            "model.covey that a site got"
        )
    total, done, used = len(pictures.names), len(without), bool(without)
    found: list[Found] = []
    left: list[LeftOut] = []
    bar = _bar(console)
    with bar or nullcontext():
        task = bar.add_task("images", total=total, completed=done) if bar else None
        for chunk in pictures.chunks(without):
            points = torch.empty(0, networks.model.width(networks.space))
            if len(chunk.data.images):
                points, used = networks.embed(chunk.data, networks.space), True
            yield Embedded(chunk.data, points, chunk.left)
            found += chunk.found
            left += chunk.left
            if bar and task is not None:
                bar.update(task, advance=len(chunk.data.images) + len(chunk.left))
    account = pictures.account(found, left, without)
    if not used:
        first = next((each for each in account.left_out if each.why), None)
        why = f"{printable(first.name)} ({first.why})" if first else printable(pictures.names[0])
        raise UserError(f"none of the {total} images can be read: {why}")
    _say(console, account)


def _bar(console: Console) -> Progress | None:
    if not console.is_terminal:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True)


def _say(console: Console, account: Account) -> None:
    """What became of the files, where not each is used as it is."""
    for line in account.lines():
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)


def embed_folder(opened: Opened, pictures: Pictures, output: Path, console: Console) -> int:
    """Write an .npz with `embeddings` (N, d) float32 of unit length and `names` (N,), as `written`;
    how many. `UserError` for another kind of file."""
    if output.suffix != MINE or not is_utf8(output):
        raise UserError(f"{output}: embeddings go into an {MINE} file")
    names: list[str] = []
    parts: list[NDArray[np.float32]] = []
    for chunk in embedded(opened, pictures, console):
        names += map(written, chunk.data.names)
        parts.append(chunk.points.cpu().numpy())
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{output.stem}.part{MINE}")
    np.savez(part, embeddings=np.concatenate(parts), names=np.array(names), model=opened.identity)
    part.replace(output)
    return len(names)


def read_embeddings(path: Path, opened: Opened) -> tuple[list[str], NDArray[np.float32]]:
    """(names, (N, d)) of an .npz that `embed_folder` wrote with this model; `UserError` for one
    that is something else, or of another model."""
    try:
        with np.load(path, allow_pickle=False) as found:
            points, names, model = found[EMBEDDINGS], found["names"], str(found["model"])
    except (OSError, ValueError, KeyError):
        raise UserError(f"{path} is no file that `covey embed` wrote") from None
    if model != opened.identity:
        raise UserError(f"{path} is of another model: `covey embed` makes it anew")
    return names.tolist(), points


def is_embeddings(path: Path) -> bool:
    """Whether it may be what `embed_folder` wrote, and not images."""
    if path.suffix != MINE or not path.is_file():
        return False
    try:
        with np.load(path, allow_pickle=False) as found:
            return EMBEDDINGS in found.files
    except (OSError, ValueError):
        return False
