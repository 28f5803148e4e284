"""A stage's figures of merit, but for those of its clusters."""

from server.measurements import Measurements


def assess(measured: Measurements) -> dict[str, float | None]:
    """Of the embeddings: a vote of neighbours, how many dimensions they use, their spread."""
    return {
        "knn": measured.share("knn_correct", "held"),
        **measured.rank(),
        **measured.spread(),
    }


def score(measured: Measurements) -> dict[str, float | None]:
    """Of the probe and the merged centroids."""
    return {
        "linear": measured.share("probe_correct", "held"),
        "silhouette": measured.share("silhouette", "images"),
        **measured.agreement(),
    }
