"""`model.covey`: a safetensors file with a digest over all that it holds. Nothing is pickled.

Tensors are named `encoder/...`, `projector/...` (where the clusters lie in its space),
`centroids/points` (K, d) and `centroids/counts` (K,). All else is JSON (`Facts`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.clustering.centroids import Centroids
from common.learned.facts import Facts
from common.utils.errors import UserError, plain
from common.utils.files import note, read_note, utf8_path, write_atomic

FILE = "model.covey"
KIND = "covey model"
Tensors = Mapping[str, NDArray[Any]]
PARTS = ("encoder", "projector", "centroids")


@dataclass(frozen=True, eq=False)
class LearnedModel:
    """A run's result: `facts`, and `tensors` by their name in the file."""

    facts: Facts
    tensors: Tensors

    @cached_property
    def identity(self) -> str:
        """16 hex digits of SHA-256 over what was learned: the same whatever the clusters are
        called."""
        return _digest({"plan": dict(self.facts.plan)}, self.tensors)[:16]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in the file, as hex digits."""
        return _digest(json.loads(self.facts.to_json()), self.tensors)

    def part(self, name: str) -> dict[str, NDArray[Any]]:
        """The tensors of "encoder", "projector" or "centroids", by their own names."""
        prefix = f"{name}/"
        return {k[len(prefix) :]: a for k, a in self.tensors.items() if k.startswith(prefix)}

    def with_facts(self, **changes: Any) -> "LearnedModel":
        """The same with other facts, which are checked."""
        given = json.loads(self.facts.to_json()) | changes
        return replace(self, facts=Facts.from_json(json.dumps(given)))

    def to_bytes(self) -> bytes:
        """The file's bytes: the same for the same content."""
        about = {"kind": KIND, "facts": json.loads(self.facts.to_json()), "digest": self.digest}
        arrays = {name: np.asarray(a, order="C") for name, a in sorted(self.tensors.items())}
        return save(arrays, metadata=note(about))

    def write(self, path: Path) -> Path:
        """Write the file whole; its path."""
        write_atomic(path, self.to_bytes())
        return path


def learned(
    facts: Facts,
    modules: Mapping[str, Mapping[str, NDArray[np.float32]]],
    centroids: Centroids,
) -> LearnedModel:
    """A model of the tensors of its `modules` ("encoder", "projector") and its centroids."""
    tensors: dict[str, NDArray[Any]] = {
        f"{module}/{name}": array
        for module, part in modules.items()
        for name, array in part.items()
    }
    tensors |= {"centroids/points": centroids.points, "centroids/counts": centroids.counts}
    return LearnedModel(facts, tensors)


def read_learned(path: Path) -> LearnedModel:
    """Read a `model.covey`; `UserError` in one line for a file that is none, or is damaged."""
    try:
        with utf8_path(path) as name, safe_open(name, framework="numpy") as file:
            about = read_note(file.metadata())
            if about.get("kind") != KIND:
                raise ValueError("it holds something else")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (SafetensorError, ValueError, OSError, TypeError) as error:
        why = plain(str(error).splitlines()[0])
        raise UserError(f"{path} is no model of Covey, or is damaged: {why}") from None
    found = LearnedModel(_facts(path, about), tensors)
    if found.digest != about.get("digest"):
        raise UserError(f"{path} is damaged: its content is not what its digest says")
    _check(path, tensors)
    return found


def kept_or(path: Path, model: LearnedModel) -> LearnedModel:
    """The model in the file `path`, with what was said of its clusters, where it is the same as
    `model`; else `model`."""
    try:
        there = read_learned(path)
    except UserError:
        return model
    return there if there.identity == model.identity else model


def _facts(path: Path, about: Mapping[str, Any]) -> Facts:
    try:
        return Facts.from_json(json.dumps(about.get("facts")))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _check(path: Path, tensors: Tensors) -> None:
    """`UserError` for a tensor that no model has."""
    for name, array in tensors.items():
        wanted = np.int64 if name == "centroids/counts" else np.float32
        if name.partition("/")[0] not in PARTS or array.dtype != wanted:
            raise UserError(f"{path}: {plain(name, 80)} is nothing that a model has")
        if wanted is np.float32 and not np.isfinite(array).all():
            raise UserError(f"{path}: {plain(name, 80)} has NaN or infinite values")


def _digest(facts: Mapping[str, Any], tensors: Tensors) -> str:
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, array in sorted(tensors.items()):
        found.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(np.asarray(array, order="C").tobytes())
    return found.hexdigest()
