"""The one table of what is measured: name, unit, which way is better, and what it means.

The report, the tables in the terminal, TensorBoard and docs/metrics.md take theirs from here.
"""

from common.protocol.exchanges import EXCHANGES
from common.record.metric import Metric

__all__ = ["COSTS", "FIGURES", "LABELLED", "METRICS", "UNLABELLED", "Metric"]

_FIGURES = (
    Metric(
        "acc", "ACC", "", "higher",
        "Share of the images whose cluster, matched one to one with the classes, is their class.",
        share=True, labels=True,
    ),
    Metric(
        "nmi", "NMI", "", "higher",
        "How much a cluster tells of the class: normalised mutual information, 1 when all.",
        share=True, labels=True,
    ),
    Metric(
        "ari", "ARI", "", "higher",
        "Agreement of clusters and classes over pairs of images: 0 by chance, 1 when equal.",
        share=True, labels=True,
    ),
    Metric(
        "purity", "purity", "", "higher",
        "Share of the images that are of their cluster's largest class; more clusters raise it.",
        share=True, labels=True,
    ),
    Metric(
        "knn", "kNN", "", "higher",
        "Accuracy of a nearest-neighbour vote on the embeddings, on images kept for evaluation.",
        share=True, labels=True,
    ),
    Metric(
        "linear", "linear", "", "higher",
        "Accuracy of a linear classifier on the embeddings, on images kept for evaluation.",
        share=True, labels=True,
    ),
    Metric(
        "agreement", "agreement", "", "higher",
        "How much the cluster of one view of an image tells of another view's: 1 when all.",
        share=True,
    ),
    Metric(
        "silhouette", "silhouette", "", "higher",
        "How much nearer an image is to its own cluster's centre than to the next: at most 1.",
        share=True,
    ),
    Metric(
        "entropy", "evenness", "", "neither",
        "Entropy of the cluster sizes: 1 when all are equal, 0 when one cluster takes all.",
        share=True,
    ),
    Metric(
        "effective_rank", "effective rank", "dimensions", "neither",
        "How many dimensions the embeddings use.",
    ),
    Metric(
        "std", "spread", "", "neither",
        "Spread of the embeddings over their dimensions: about 1 is healthy, 0 is collapse.",
        share=True,
    ),
)  # fmt: skip
_COSTS = (
    Metric(
        "loss", "loss", "", "lower",
        "Mean over the images that the sites trained on; terms have their own scale.",
    ),
    Metric(
        "seconds", "time", "s", "lower",
        "Wall time at the server; its phases are means over the sites.",
    ),
    Metric("bytes_down", "to sites", "bytes", "lower", "Sent from the server to all sites."),
    Metric("bytes_up", "from sites", "bytes", "lower", "Sent from all sites to the server."),
    Metric("answered", "answered", "sites", "higher", "Sites whose answers were used."),
    Metric("missing", "missing", "sites", "lower", "Sites that were away, or did not answer."),
    Metric("refused", "refused", "sites", "lower", "Sites whose answers were refused, with why."),
)  # fmt: skip

FIGURES = {metric.key: metric for metric in _FIGURES} | {
    metric.key: metric for exchange in EXCHANGES.values() for metric in exchange.figures
}
"""Of a model: what a round received, and what a stage ended with, also by its exchanges."""
COSTS = {metric.key: metric for metric in _COSTS}
"""Of a round, or of a stage's end: what it took, and who took part."""
METRICS = {**FIGURES, **COSTS}

LABELLED = ("acc", "nmi", "ari", "knn", "linear")
"""The figures to show first where a site has labels ..."""
UNLABELLED = ("agreement", "silhouette", "entropy")
"""... and where none has."""
