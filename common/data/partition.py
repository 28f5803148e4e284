"""Which image belongs to which site of a local federation.

A partition is made from labels by a rule such as `dirichlet(0.1)`, or read from the JSON file that
it was saved in. Every image has exactly one site, and every site has an image.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from common.data.images import Indices, Labels, generator
from common.data.splits import SPLITS
from common.utils.errors import UserError, unknown
from common.utils.files import write_atomic

IID = "iid"  # the one rule that needs no labels

# (least, most, only whole numbers) of each rule's parameter; None: it takes none.
BOUNDS: dict[str, tuple[float, float, bool] | None] = {
    IID: None,
    "dirichlet": (1e-4, 1e6, False),
    "p-skew": (0.0, 1.0, False),
    "shards": (1, 1e6, True),
}


@dataclass(frozen=True)
class Rule:
    """A parsed specification: a name of `SPLITS` and its parameter (0 where it takes none)."""

    name: str
    parameter: float


def parse(spec: str) -> Rule:
    """`"dirichlet(0.1)"` -> `Rule("dirichlet", 0.1)`; `UserError` says what does not fit."""
    shape = re.fullmatch(r"\s*([a-z-]+)\s*(?:\(\s*([^()]*?)\s*\))?\s*", spec)
    name, text = shape.groups() if shape else (spec, None)
    if name not in SPLITS:
        raise unknown("partition", name, SPLITS)
    bounds = BOUNDS[name]
    if bounds is None:
        if text is not None:
            raise UserError(f"partition {spec!r}: {name} takes no parameter")
        return Rule(name, 0.0)
    least, most, whole = bounds
    value = _number(text)
    if not least <= value <= most or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise UserError(f"partition {spec!r}: {name} needs {kind} from {least:g} to {most:g}")
    return Rule(name, value)


def _number(text: str | None) -> float:
    """NaN, which is within no bounds, for what is not a number."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


@dataclass(frozen=True, eq=False)
class Partition:
    """`sites`: for each site the indices of its images, ascending; `spec` and `seed`: how it was
    made."""

    spec: str
    seed: int
    sites: tuple[Indices, ...]

    @cached_property
    def hash(self) -> str:
        """16 hex digits of SHA-256 over everything."""
        digest = hashlib.sha256(f"{self.spec}/{self.seed}/{len(self.sites)}".encode())
        for site in self.sites:
            digest.update(f"/{len(site)}/".encode() + site.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        content = {
            "spec": self.spec,
            "seed": self.seed,
            "hash": self.hash,
            "sites": [site.tolist() for site in self.sites],
        }
        write_atomic(path, json.dumps(content).encode())

    @classmethod
    def load(cls, path: Path) -> "Partition":
        """Read what `save` wrote; `UserError` for a file that is missing, cut or changed."""
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            sites = tuple(np.array(site, np.int64) for site in content["sites"])
            partition = cls(str(content["spec"]), int(content["seed"]), sites)
            stored = content["hash"]
        except FileNotFoundError:
            raise UserError(f"there is no partition file {path}") from None
        except (OSError, ValueError, TypeError, KeyError, OverflowError):
            raise UserError(f"{path} is cut or damaged, or not a partition file") from None
        if stored != partition.hash:
            raise UserError(f"{path} was changed: its hash is {partition.hash}, it says {stored}")
        return partition


def make_partition(
    labels: Labels | None,
    spec: str,
    sites: int,
    seed: int,
    size_skew: float = 0.0,
    *,
    images: int = 0,
) -> Partition:
    """Spread images over `sites` by the rule `spec`; the same arguments give the same partition.

    `labels` (N,), or None for unlabelled data, of which `images` says how many there are; then only
    `iid` is possible. `size_skew` > 0 draws the sites' shares from Dirichlet(size_skew). Every site
    gets at least min(10, N // sites) images (p-skew and shards: at least one). `UserError` where
    the rule cannot be applied.
    """
    rule = parse(spec)
    if labels is None:
        if rule.name != IID:
            raise UserError(f"partition {spec!r} needs labels: unlabelled images can only be iid")
        labels = np.zeros(images, np.int64)
    if not 1 <= sites <= len(labels):
        raise UserError(f"{sites} sites need at least one image each: there are {len(labels)}")
    rng = generator(seed, "partition")
    shares = rng.dirichlet(np.full(sites, size_skew)) if size_skew > 0 else None
    # Classes that no image has do not count.
    dense = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    parts = SPLITS[rule.name](dense, rule.parameter, shares, sites, rng)
    return Partition(spec, seed, tuple(np.sort(part) for part in parts))
