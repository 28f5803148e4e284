"""The table that `covey evaluate` prints."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from deploy.evaluation import finetune
from deploy.terminal.table import show_table

SCORES = ("ACC", "NMI", "ARI")
CLUSTERINGS = (
    ("centroids", "the federation's centroids"),
    ("centroids_held_out", "the same, held-out images"),
    ("kmeans", "k-means, pooled"),
)


def show(figures: Mapping[str, Any], console: Console) -> None:
    """Print the figures that are there; accuracies of classifiers are in the first column."""
    rows: list[tuple[str, ...]] = []
    space = figures["clustering_space"]
    for name, said in CLUSTERINGS:
        if name in figures:
            scores = (f"{figures[name][key]:.3f}" for key in ("acc", "nmi", "ari"))
            rows.append((f"{said} ({space})", *scores))
    for name, said in _classifiers(figures["federated"]):
        if name in figures:
            rows.append((f"{said} (encoder)", f"{figures[name]:.3f}", "", ""))
    for name, protocol in finetune.PROTOCOLS.items():
        if name in figures:
            rows.append((*_semi(figures[name], protocol.share), "", ""))
    title = f"{figures['run']} on {figures['dataset']}"
    show_table(console, ("what", *SCORES), rows, title=title, numbers=SCORES)
    console.print(_caption(figures), style="dim", highlight=False, markup=False)


def _classifiers(federated: bool) -> tuple[tuple[str, str], ...]:
    if federated:
        return (("knn", "kNN, each site its own"), ("linear", "linear probe, from summed moments"))
    return (("knn", "kNN"), ("linear", "linear probe"))


def _semi(found: Mapping[str, Any], share: float) -> tuple[str, str]:
    what = f"fine-tuned with {share:.0%} of the labels ({found['labels']})".replace("%", " %")
    spread = "" if found["std"] is None else f" ± {found['std']:.3f}"
    return what, f"{found['mean']:.3f}{spread}"


def _caption(figures: Mapping[str, Any]) -> str:
    if figures["federated"]:
        return f"kNN and probe: on {figures['held_out']} evaluation images. {figures['compare']}"
    names = ("centroids_held_out", "knn", "linear", *finetune.PROTOCOLS)
    scored = any(name in figures for name in names)
    return f"classifiers, and what says so: on {figures['held_out']} held-out images" * scored
