"""Every exchange, declared once: what leaves a site, and why.

To add one, write its declaration here, a function that answers it in `client/tasks/`, and one that
concludes something from the sums of all sites on the server (docs/researcher/exchanges.md walks
through it). The message, the site's dispatch, both sides' checks, quorum and re-asking, the site's
log and the table in docs/design.md come from the declaration.
"""

from common.protocol.declaration import (
    CLASSES,
    CLASSES_OR_NONE,
    CLUSTERS,
    EPOCHS,
    LANDMARKS,
    ONCE,
    SENT,
    SETS,
    WIDTH,
    WIDTH_AND_ONE,
    Asks,
    Behind,
    Brings,
    Exchange,
    Given,
    List,
    Needs,
    Number,
    Property,
    Sum,
    When,
)
from common.protocol.parts import (
    GRAM,
    HEAD,
    HELD,
    IMAGES,
    LOCAL,
    LOSSES,
    OWN_CENTROIDS,
    SECOND_MOMENT,
    SOME_IMAGES,
    SPREAD,
)
from common.record.metric import Metric

__all__ = ["EXCHANGES", "MOST_SETS", "Metric"]  # a metric is what a declaration's figures are

MOST_SETS = 64  # of centroids in one step of Lloyd's algorithm


def declared(*exchanges: Exchange) -> dict[str, Exchange]:
    """kind -> declaration."""
    table = {each.kind: each for each in exchanges}
    if len(table) < len(exchanges):
        raise ValueError("two exchanges of one kind")
    return table


EXCHANGES = declared(
    Exchange(
        kind="hello",
        about="who the site is, and what its images look like",
        doing="greeting",
        when=When.COMING,
        needs=Needs.NOTHING,
        tells=(
            "channels",
            "side",
            "kind",
            "classes",
            "fingerprint",
            "device",
            "python",
            "torch",
            "window",
            "files",
        ),
        call="query",
    ),
    Exchange(
        kind="prepare",
        about="what the objective shares before a round, from the model that all received",
        doing="sharing what a round begins with",
        when=When.ROUND,
        asks=Asks.SHARE,
        brings=Brings.PREPARED,
        numbers=(IMAGES,),
    ),
    Exchange(
        kind="train",
        about="measure the state that came, then train it on the site's images",
        doing="training",
        when=When.ROUND,
        asks=Asks.SHARE,
        brings=Brings.SHARED,
        sums=(LOCAL, HEAD, *SPREAD),
        numbers=(
            SOME_IMAGES,
            Number("seen", "images that were trained on, in all passes", times=EPOCHS),
            LOSSES,
        ),
        lists=(OWN_CENTROIDS,),
        call="train",
    ),
    Exchange(
        kind="patches",
        about="the patches that one layer of the encoder sees, from which the server sets it",
        doing="sums over patches",
        when=When.BEGINNING,
        sums=(
            Sum(
                "gram",
                "moments of patches",
                "Σ x xᵀ, x all patches of an image, scaled to length 1 together, and a 1",
                (WIDTH_AND_ONE, WIDTH_AND_ONE),
                norm=2.0,
                properties=SECOND_MOMENT,
            ),
        ),
        numbers=(IMAGES,),
        steps=True,
    ),
    Exchange(
        kind="moments",
        about="two views' embeddings, from which the server solves a projection",
        doing="sums over two views",
        when=When.BEGINNING,
        sums=(
            GRAM,
            Sum(
                "within",
                "moments of differences between views",
                "Σ (h_a - h_b)(h_a - h_b)ᵀ of two views a and b of each image",
                (WIDTH, WIDTH),
                bound=4.0,
                norm=4.0,
                properties=(*SECOND_MOMENT, Property.DEFINITE),
            ),
        ),
        numbers=(IMAGES,),
    ),
    Exchange(
        kind="landmarks",
        about="centres of many small clusters, in the space so projected",
        doing="landmarks",
        when=When.BEGINNING,
        lists=(
            List(
                "centroids",
                "centroids",
                "unit-length centres of many small clusters of the site's own, with counts",
                "all images' weights are over the same landmarks, which nobody has before",
                most=LANDMARKS,
            ),
        ),
        numbers=(IMAGES,),
    ),
    Exchange(
        kind="affinity",
        about="two views' weights over all sites' landmarks",
        doing="sums over the landmarks",
        when=When.BEGINNING,
        sums=(
            Sum(
                "affinity",
                "moments of weights over landmarks",
                "Σ ½(a_a a_bᵀ + a_b a_aᵀ), a the weights of two views, which add up to 1",
                (WIDTH, WIDTH),
                behind=Behind.MIN_COUNT,
                properties=(*SECOND_MOMENT, Property.NON_NEGATIVE),
            ),
        ),
        numbers=(IMAGES,),
    ),
    Exchange(
        kind="assess",
        about="a stage has ended: the site's clusters and moments by its final state",
        doing="local clusters",
        when=When.ENDING,
        needs=Needs.EMBEDDINGS,
        sums=(
            LOCAL,
            HEAD,
            *SPREAD,
            GRAM,
            Sum(
                "cross",
                "class moments",
                "Σ h by class, for classes with `min-count` images",
                (WIDTH_AND_ONE, CLASSES_OR_NONE),
                norm=2**0.5,
                behind=Behind.MIN_COUNT,
            ),
        ),
        numbers=(
            SOME_IMAGES,
            HELD,
            Number(
                "knn_correct", "those that their neighbours name", behind=Behind.ONE, part_of="held"
            ),
        ),
        lists=(OWN_CENTROIDS,),
    ),
    Exchange(
        kind="lloyd",
        about="one step of k-means: the images nearest to each of the centroids that came",
        doing="k-means",
        when=When.ENDING,
        needs=Needs.EMBEDDINGS,
        after="assess",
        asks=Asks.SHARE,
        centroids=Given.SETS,
        sets=MOST_SETS,
        sums=(
            Sum(
                "sums",
                "sums by cluster",
                "Σ h of the images nearest to each centroid",
                (SENT, WIDTH),
                behind=Behind.MIN_COUNT,
                repeats=SETS,
            ),
            Sum(
                "lloyd",
                "table of lloyd",
                "their number",
                (SENT, ONCE),
                behind=Behind.MIN_COUNT,
                repeats=SETS,
                counts=True,
            ),
        ),
        numbers=(
            IMAGES,
            Number("inertia.#", "Σ 1 - cos to the nearest", high=2.0, counts=False, needed=True),
        ),
        steps=True,
    ),
    Exchange(
        kind="score",
        about="what the merged centroids and the probe make of the images",
        doing="scores",
        when=When.ENDING,
        needs=Needs.EMBEDDINGS,
        after="assess",
        centroids=Given.ONE_SET,
        sums=(
            Sum(
                "centroids",
                "table of centroids",
                "images by (nearest centroid, class)",
                (CLUSTERS, CLASSES),
                behind=Behind.ONE,
                counts=True,
            ),
            HEAD,
            Sum(
                "views",
                "table of views",
                "images by (cluster of one view, cluster of another)",
                (CLUSTERS, CLUSTERS),
                behind=Behind.ONE,
                counts=True,
            ),
        ),
        numbers=(
            IMAGES,
            HELD,
            Number("silhouette", "the simplified silhouettes", low=-1.0, counts=False),
            Number(
                "probe_correct",
                "those that the probe names rightly",
                behind=Behind.ONE,
                part_of="held",
            ),
        ),
        robust=False,
    ),
    Exchange(
        kind="deliver",
        about="what was learned, for the site to keep: model, names and sizes of the clusters",
        doing="handing the model over",
        when=When.FINISHED,
        centroids=Given.ONE_SET,
        numbers=(IMAGES,),
        robust=False,
    ),
)
