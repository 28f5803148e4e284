"""The gallery put together: what is shown of pictures that a model has seen, and the page of it."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from client.gallery.choice import Floats, Rows, Seen, strips
from client.gallery.layout import flattened
from client.gallery.page import PAGE
from client.gallery.script import SCRIPT
from client.gallery.style import STYLE
from client.gallery.thumbnails import CELL, TILE, TINY, Pixels, sprite, tile
from common.learned.facts import Facts
from common.pages.template import fill
from common.utils.files import write_atomic
from common.utils.names import written
from common.utils.seeds import derive_seed

Look = Callable[[Sequence[int], int], Sequence[Pixels]]
"""Pixels (C, S, S) of the pictures in these rows, at about this side."""
Flatten = Callable[[Floats, int], NDArray[Any]]
"""Places (M, 2) of embeddings (M, d), with a seed."""


@dataclass(frozen=True)
class Gallery:
    """What is shown, whatever the clusters are called. `strips`: by cluster, with pictures as
    (name, what is known of it, address); `points`: the map, as the page's script takes it."""

    here: NDArray[np.int64]
    sure: NDArray[np.float64]
    strips: dict[int, list[dict[str, Any]]]
    points: dict[str, Any]
    images: int
    tiny: bool


def build(
    seen: Seen,
    sample: Rows,
    points: Floats,
    look: Look,
    clusters: int,
    seed: int,
    flatten: Flatten = flattened,
) -> Gallery:
    """The gallery of N pictures. `sample` (M,): rows of those in the map, with embeddings `points`
    (M, d); `look` gives pixels; `flatten` gives places in the map."""
    here = np.bincount(seen.cluster, minlength=clusters)
    total = np.bincount(seen.cluster, weights=seen.confidence, minlength=clusters)
    map_seed = derive_seed(seed, "gallery map") % 2**32
    chosen = strips(seen, clusters, seed)
    rows = sorted({row for each in chosen.values() for strip in each for row in strip.rows})
    shown = list(look(rows, TILE))
    tiles = {row: tile(pixels) for row, pixels in zip(rows, shown, strict=True)}
    drawn: dict[int, list[dict[str, Any]]] = {}
    for cluster, found in chosen.items():
        drawn[cluster] = [
            {
                "title": strip.title,
                "about": strip.about,
                "pictures": [_picture(seen, row, tiles[row]) for row in strip.rows],
            }
            for strip in found
        ]
    return Gallery(
        here=here,
        sure=total / np.maximum(here, 1),
        strips=drawn,
        points=_map(seen, sample, flatten(points, map_seed), look) if len(sample) else {},
        images=len(seen.names),
        tiny=bool(shown) and shown[0].shape[-1] <= TINY,
    )


def _picture(seen: Seen, row: int, address: str) -> dict[str, Any]:
    about = f"confidence {seen.confidence[row]:.2f}, next: cluster {seen.runner_up[row]}"
    return {"name": written(seen.names[row]), "about": about, "address": Markup(address)}  # noqa: S704 (made here)


def _map(seen: Seen, sample: Rows, places: NDArray[Any], look: Look) -> dict[str, Any]:
    flat = places.astype(np.float64)
    low, high = flat.min(axis=0), flat.max(axis=0)
    placed = (flat - low) / np.where(high > low, high - low, 1)
    rows = [int(row) for row in sample]
    sheet, across = sprite(look(rows, CELL), len(rows))
    return {
        "x": placed[:, 0].round(4).tolist(),
        "y": placed[:, 1].round(4).tolist(),
        "cluster": seen.cluster[sample].tolist(),
        "name": [written(seen.names[row]) for row in rows],
        "sheet": sheet,
        "across": across,
        "cell": CELL,
    }


def render(
    gallery: Gallery, facts: Facts, identity: str, title: str, command: str, save: str = ""
) -> str:
    """The page, with the clusters called as `facts` says. `command`: how names that were saved as a
    file get into the model; `save`: where the page sends them instead, of a page that is served."""
    order = sorted(np.flatnonzero(gallery.here), key=lambda k: (-gallery.here[k], k))
    known = {number: name for number, name in enumerate(facts.names) if name}
    about = {
        "model": identity,
        "names": known,
        "same": facts.same,
        "split": facts.split,
        "map": gallery.points,
        "command": command,
        "save": save,
    }
    largest = int(gallery.here.max(initial=1))
    mapped = len(gallery.points.get("x", ()))
    context = {
        "title": title,
        "facts": _facts(gallery, facts),
        "piles": [_pile(gallery, facts, int(number), largest) for number in order],
        "empty": [
            {"shown": facts.shown(k), "federation": _federation(facts, k)}
            for k in range(facts.clusters)
            if not gallery.here[k]
        ],
        "points": f"{mapped:,}" if mapped else "",
        "images": f"{gallery.images:,}",
        "sampled": mapped < gallery.images,
        "tiny": gallery.tiny,
        "save": save,
        "data": Markup(json.dumps(about).replace("<", "\\u003c")),  # noqa: S704 (no tag is left)
        "script": Markup(SCRIPT),  # noqa: S704 (a constant of ours)
        "script_digest": SCRIPT_DIGEST,
    }
    return fill(PAGE, STYLE, context)


def _pile(gallery: Gallery, facts: Facts, number: int, largest: int) -> dict[str, Any]:
    size = int(gallery.here[number])
    return {
        "number": number,
        "shown": facts.shown(number),
        "named": facts.shown(number) != f"cluster {number}",
        "name": facts.names[number],
        "split": number in facts.split,
        "size": size,
        "sure": round(float(gallery.sure[number]), 4),
        "here": f"{size:,}",
        "federation": _federation(facts, number),
        "confidence": f"{gallery.sure[number]:.2f}",
        "share": round(100 * size / max(1, largest), 1),
        "strips": gallery.strips.get(number, []),
    }


def _federation(facts: Facts, number: int) -> str:
    return f"{facts.sizes[number]:,}" if facts.sizes and facts.sites > 1 else ""


def _facts(gallery: Gallery, facts: Facts) -> list[tuple[str, str]]:
    several = [("in the federation", f"{facts.images:,} at {facts.sites} sites")]
    return [
        ("pictures here", f"{gallery.images:,}"),
        ("clusters here", f"{np.count_nonzero(gallery.here)} of {facts.clusters}"),
        *(several if facts.sites > 1 else []),
        ("recipe", facts.recipe),
        ("run", facts.run),
    ]


def _digest(script: str) -> Markup:
    """What a content security policy calls the script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Markup(f"sha256-{digest}")  # noqa: S704 (made here)


SCRIPT_DIGEST = _digest(SCRIPT)


def write(path: Path, html: str) -> None:
    """Write the page whole."""
    write_atomic(path, html.encode(errors="backslashreplace"))
