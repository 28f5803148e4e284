"""Weights that a site takes from its server, once, in parts, where its operator has allowed that.

What has come lies in `.DIGEST.part`, which nothing reads as weights. When all of it is there and
has the SHA-256 that the plan names, it becomes `DIGEST.safetensors`; otherwise it is thrown away. A
file that was cut off is gone on with from its last whole part.
"""

import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.config.encoder import Network, is_onnx
from common.config.options import Plan
from common.models.pretrained.store import PART, WeightStore, digest_of_file, parts_of, remember
from common.utils.errors import UserError, plain

LOG = logging.getLogger(__name__)
MOST = 4 * 2**30  # bytes of weights in a site's folder, all together


def parts_had(store: WeightStore, plan: Plan) -> int | None:
    """How many parts of the file with the plan's weights have come before; None where none is
    wanted: the plan has none, it is here, or the site takes none, or none so large."""
    how = plan.network
    if store.taken is None or how is None or is_onnx(plan.encoder):  # a program is one's own
        return None
    if store.find(plan.weights, how.size) is not None:
        return None
    if _room(store.taken, plan) < how.size:
        LOG.warning(
            "the weights of %s (%.1f MB) are not taken: a site's weights/ holds %.1f GB at most",
            plain(plan.encoder, 80), how.size / 1e6, MOST / 1e9,
        )  # fmt: skip
        return None
    return _had(_place(store.taken, plan), how)


def take_part(store: WeightStore, plan: Plan, number: int, data: NDArray[np.uint8]) -> None:
    """Keep part `number`, from 1, and with the last one the whole; `UserError` where it is not the
    next one, not as long as it must be, or the whole is not what the plan names. Nothing is done
    where the file is here."""
    how = plan.network
    if how is None or store.taken is None:
        raise UserError("weights: this site takes none")
    if store.find(plan.weights, how.size) is not None:  # another site of this machine has got it
        _clear(store.taken)
        return
    had = parts_had(store, plan)
    if had is None:
        raise UserError("weights: this site takes none so large")
    wanted = min(PART, how.size - had * PART)
    if number != had + 1 or len(data) != wanted:
        raise UserError(f"weights: {len(data)} bytes as part {number}, after {had} parts")
    path = _place(store.taken, plan)
    if number == 1:
        _clear(store.taken)
    with path.open("r+b" if had else "wb") as file:
        file.truncate(had * PART)
        file.seek(had * PART)
        file.write(data.tobytes())
        file.flush()
        os.fsync(file.fileno())
    if number == parts_of(how.size):
        _keep(path, store.taken, plan)


def _keep(path: Path, folder: Path, plan: Plan) -> None:
    if digest_of_file(path) != plan.weights:
        path.unlink()
        raise UserError("weights: what came has another SHA-256 than the plan names; thrown away")
    place = folder / f"{plan.weights}.safetensors"
    path.rename(place)
    found = WeightStore((folder,)).find(plan.weights)
    if found is not None:
        remember(found, plan.encoder)
    LOG.info("the weights of %s were taken from the server: %s", plain(plan.encoder, 80), place)


def _place(folder: Path, plan: Plan) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f".{plan.weights}.part"


def _had(path: Path, how: Network) -> int:
    """Whole parts, but the last, which is asked for again where the whole was not looked at."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    return min(size // PART, parts_of(how.size) - 1)


def _room(folder: Path, plan: Plan) -> int:
    """Bytes that may come, beside what is there and is no part of a file that is to come."""
    try:
        return MOST - sum(each.stat().st_size for each in folder.iterdir() if not _is_part(each))
    except OSError:
        return MOST


def _clear(folder: Path) -> None:
    """Throw parts away: there is one file that is coming."""
    for each in filter(_is_part, folder.glob("*")):
        each.unlink(missing_ok=True)


def _is_part(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".part"
