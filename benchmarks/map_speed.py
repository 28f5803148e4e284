"""How long the map of embeddings takes, and how well it keeps who is near whom: t-SNE with
scikit-learn's defaults, with the report's settings, and with others.

    python benchmarks/map_speed.py RUN
"""

import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from _table import save_json, show
from numpy.typing import NDArray
from sklearn.manifold import TSNE, trustworthiness

from client.gallery.layout import ANGLE, ITERATIONS
from deploy.evaluation.data_map import IMAGES, embedded_sample
from deploy.evaluation.trained import load_trained

DEFAULTS: dict[str, Any] = {}
OURS = {"max_iter": ITERATIONS, "angle": ANGLE}
SETTINGS: dict[str, tuple[int, dict[str, Any]]] = {
    "defaults, 1500 points": (1500, DEFAULTS),
    "the report's points, defaults": (IMAGES, DEFAULTS),
    "the report's": (IMAGES, OURS),
    "the report's, 300 iterations": (IMAGES, {**OURS, "max_iter": 300}),
    "the report's, 600 points": (600, OURS),
    "the report's, on 30 principal components": (IMAGES, OURS),
}
COMPONENTS = 30


def main(
    run: Annotated[Path, typer.Argument(help="the folder of a finished run")],
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
) -> None:
    """Draw each map once, print."""
    _, points = embedded_sample(load_trained(run), 1500)
    whole = points.cpu().numpy()
    rows, first = [], 0.0
    for name, (images, settings) in SETTINGS.items():
        used = whole[:images]
        begun = time.process_time()
        flat = drawn(principal(used) if "principal" in name else used, settings)
        seconds = time.process_time() - begun
        first = first or seconds
        kept = trustworthiness(used, flat, n_neighbors=12)
        rows.append((name, len(used), seconds, f"{seconds / first:.2f}", f"{kept:.4f}"))
    if json:
        save_json(json, rows)
    columns = ("settings", "points", "CPU seconds", "of the first", "trustworthiness")
    show(f"map of embeddings of {run.name}", columns, rows)


def drawn(points: NDArray[np.float32], settings: dict[str, Any]) -> NDArray[np.float32]:
    """Places (N, 2) of points (N, d)."""
    return TSNE(init="pca", random_state=0, **settings).fit_transform(points)


def principal(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points (N, d) on their first principal components."""
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:COMPONENTS].T


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    typer.run(main)
