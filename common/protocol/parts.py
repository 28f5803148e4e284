"""What exchanges bring back, above all several: sums, numbers and lists that are declared once.

h is an embedding of unit length, with a 1 appended where a shape says d+1.
"""

from collections.abc import Iterator

from common.protocol.declaration import (
    CLASSES,
    CLASSES_OR_NONE,
    CLUSTERS,
    LANDMARKS,
    ONCE,
    OWN,
    SENT,
    SETS,
    WIDTH,
    WIDTH_AND_ONE,
    Behind,
    List,
    Number,
    Property,
    Sum,
)

LARGEST_LOSS = 1e30  # of which any number of sites can be added up
SECOND_MOMENT = (Property.SYMMETRIC, Property.SQUARES)

FACTS = (
    "channels", "side", "kind", "classes", "fingerprint", "device", "python", "torch", "window",
    "files", "withdrawn", "names", "weights",
)  # fmt: skip

IMAGES = Number("images", "the site's images")
SOME_IMAGES = Number("images", "the site's images", needed=True)
HELD = Number("held", "images that the probe and the vote were tried on")
HEAD = Sum(
    "head",
    "table of head",
    "images by (the cluster head's choice, class)",
    (CLUSTERS, CLASSES),
    behind=Behind.ONE,
    counts=True,
    optional=True,
)
LOCAL = Sum(
    "local",
    "table of local",
    "images by (own cluster, class)",
    (OWN, CLASSES),
    behind=Behind.ONE,
    counts=True,
    optional=True,
)
SPREAD = (
    Sum("sum", "sum of embeddings", "Σ h", (WIDTH,)),
    Sum("squares", "squares of embeddings", "Σ h², number by number", (WIDTH,)),
)
OWN_CENTROIDS = List(
    "centroids",
    "centroids",
    "unit-length centres of the site's own clusters, with counts",
    "the sites' clusters have to be found in each other before anything can be added up",
)
LANDMARK_LIST = List(
    "centroids",
    "centroids",
    "unit-length centres of many small clusters of the site's own, with counts",
    "all images' weights are over the same landmarks, which nobody has before",
    most=LANDMARKS,
)
GRAM = Sum(
    "gram",
    "moments",
    "Σ h hᵀ",
    (WIDTH_AND_ONE, WIDTH_AND_ONE),
    norm=2.0,
    properties=SECOND_MOMENT,
)
PATCHES = Sum(
    "gram",
    "moments of patches",
    "Σ x xᵀ, x all patches of an image, scaled to length 1 together, and a 1",
    (WIDTH_AND_ONE, WIDTH_AND_ONE),
    norm=2.0,
    properties=SECOND_MOMENT,
)
WITHIN = Sum(
    "within",
    "moments of differences between views",
    "Σ (h_a - h_b)(h_a - h_b)ᵀ of two views a and b of each image",
    (WIDTH, WIDTH),
    bound=4.0,
    norm=4.0,
    properties=(*SECOND_MOMENT, Property.DEFINITE),
)
INERTIAS = Number(
    "inertia.#",
    "Σ 1 - cos to the nearest",
    high=2.0,
    behind=Behind.MIN_COUNT,
    counts=False,
    needed=True,
)
SILHOUETTES = Number(
    "silhouette.#",
    "the simplified silhouettes",
    low=-1.0,
    behind=Behind.MIN_COUNT,
    counts=False,
    needed=True,
)
WEIGHED = Number(
    "weighed", "images that were weighed: all, or those of one cluster", behind=Behind.MIN_COUNT
)
VIEWS = Number(
    "views.#",
    "images of which two views are in one cluster",
    behind=Behind.MIN_COUNT,
    counts=False,
    needed=True,
)
TWINS = Number(
    "twins.#",
    "images that this clustering and its twin put into the cluster of the same number",
    behind=Behind.MIN_COUNT,
    counts=False,
    needed=True,
)
AFFINITY = Sum(
    "affinity",
    "moments of weights over landmarks",
    "Σ ½(a_a a_bᵀ + a_b a_aᵀ), a the weights of two views, which add up to 1",
    (WIDTH, WIDTH),
    behind=Behind.MIN_COUNT,
    properties=(*SECOND_MOMENT, Property.NON_NEGATIVE),
)
TRIED = Sum(
    "views",
    "table of views",
    "images by (cluster of one view, cluster of another), for each way",
    (SENT, CLUSTERS),
    behind=Behind.ONE,
    repeats=SETS,
    counts=True,
)
NEAREST = (
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
)
LOSSES = Number(
    "loss.*", "the objective's losses", low=-LARGEST_LOSS, high=LARGEST_LOSS, counts=False
)
CLASS_MOMENTS = Sum(
    "cross",
    "class moments",
    "Σ h by class, for classes with `min-count` images",
    (WIDTH_AND_ONE, CLASSES_OR_NONE),
    norm=2**0.5,
    behind=Behind.MIN_COUNT,
)
ATTACKS = {
    "near": "how near a landmark or a centroid they are",
    "views": "how alike the encoder finds ten views of each",
    "projected": "how alike the projector that was trained with does",
}
"""By what an audit tells images that were taken back from others."""


def _recalled() -> Iterator[Number]:
    bound = Behind.MIN_COUNT
    yield Number("taken", "images that were taken back and are looked for", behind=bound)
    yield Number("stayed", "images that stayed, beside which they are looked for", behind=bound)
    for name, by in ATTACKS.items():
        what = f"over those looked for, the share of the others that each is above, by {by}"
        yield Number(name, f"Σ {what}", counts=False, behind=bound, part_of="taken")
        found = "those that are above all but 1 % of the others"
        yield Number(f"{name}_found", found, behind=Behind.ONE, part_of="taken")
    yield Number("sums", "sums over features that were made anew")
    yield Number("sums_same", "those that are, to the bit, what was answered", part_of="sums")


RECALLED = tuple(_recalled())
