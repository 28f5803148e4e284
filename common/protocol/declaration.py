"""The words in which an exchange is declared (`common/protocol/exchanges.py`).

An exchange is a question to the sites and what they bring back: nearly all of it sums over images.
A declaration says of each its shape, the most that one image can add and how many are behind it.
Reading, checks, adding up, the site's log and the docs' table follow. No torch, no numpy.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from common.record.metric import Metric


class Needs(StrEnum):
    """What a message has to bring, or the site to have."""

    NOTHING = "nothing"
    MODEL = "the model"
    EMBEDDINGS = "the model, for sites that do not remember their embeddings by it"


class Asks(StrEnum):
    """How many of the sites are asked."""

    ALL = "all"
    SHARE = "participation"  # as many as the plan's option of that name says
    TAKING = "those that take images back"  # every one of them, or it does not count


class When(StrEnum):
    """What a stage is at when the exchange is held."""

    COMING = "a site has come"
    BEGINNING = "a stage begins"  # held where what is solved in it asks for it
    ROUND = "a round"
    ENDING = "a stage ends"
    FINISHED = "the run has ended"
    LATER = "somebody asks, of a finished run"
    FORGETTING = "images are taken back"


class Brings(StrEnum):
    """Which modules an answer brings back."""

    NOTHING = "none"
    SHARED = "all that is shared"
    PREPARED = "the one that is prepared"
    GRADIENT = "the gradient of those that are trained"


class Given(StrEnum):
    """The centroids that a message brings."""

    PERHAPS = "the federation's, where there are any"
    ONE_SET = "the federation's"
    SETS = "sets of them"


class Behind(StrEnum):
    """The fewest of a site's images that are behind a number which is not 0."""

    ONE = "1"
    MIN_COUNT = "`min-count`"
    ALL = "all"


class Property(StrEnum):
    """What a sum of matrices is, whatever the images."""

    SYMMETRIC = "symmetric"
    SQUARES = "no negative number on the diagonal"
    DEFINITE = "no negative eigenvalue"
    NON_NEGATIVE = "no negative number"


@dataclass(frozen=True)
class Sizes:
    """The numbers that decide shapes: of an embedding (or of what something is solved from), of
    clusters, of classes over all sites, of centroids that were sent; of centroids that the site
    sends itself, and the most that these may be; a round's passes over the images; of sets of
    centroids that were sent, where they are not all of `clusters`."""

    width: int
    clusters: int
    classes: int = 0
    sent: int = 0
    own: int = 0
    landmarks: int = 0
    epochs: int = 1
    several: int = 0

    @property
    def sets(self) -> int:
        """Sets of centroids that were sent."""
        return self.several or self.sent // self.clusters


@dataclass(frozen=True)
class Size:
    """One side of a shape: the entry `of` a `Sizes` and `more`, or just `more`; at a site without
    labels it may be `unlabelled`."""

    of: str
    symbol: str
    more: int = 0
    unlabelled: int | None = None

    def options(self, sizes: Sizes) -> tuple[int, ...]:
        """The numbers that it may be, the usual one first."""
        number = self.more + (int(getattr(sizes, self.of)) if self.of else 0)
        return (number,) if (least := self.unlabelled) is None else (max(number, least), least)


Use = Literal["unlearn", "audit"]  # of images taken back: to train away from, to look for in models
WIDTH = Size("width", "d")
WIDTH_AND_ONE = Size("width", "d+1", more=1)
CLUSTERS = Size("clusters", "K")
CLASSES = Size("classes", "C", unlabelled=1)  # of a table; one column where there are no labels
CLASSES_OR_NONE = Size("classes", "C", unlabelled=0)
SENT = Size("sent", "m")
OWN = Size("own", "k")
SETS = Size("sets", "m/K")
LANDMARKS = Size("landmarks", "landmarks")
EPOCHS = Size("epochs", "local epochs")
ONCE = Size("", "1", more=1)


@dataclass(frozen=True)
class Sum:
    """Numbers that are added up over a site's images, and over the sites.

    `words`: what the log of what left calls it; `what`: the formula. `bound`: the most, in absolute
    value, that one image adds to any one number of it. `norm`: the most that the length (L2) of
    all that it adds can be: a sum's sensitivity, by which noise would be scaled. `repeats`: so
    often is an image in it, with `bound` and `norm` each time. `counts`: whole numbers, no negative
    ones (a table). `optional`: a site may have nothing to add.
    """

    name: str
    words: str
    what: str
    shape: tuple[Size, ...]
    bound: float = 1.0
    norm: float = 1.0
    behind: Behind = Behind.ALL
    properties: tuple[Property, ...] = ()
    repeats: Size = ONCE
    counts: bool = False
    optional: bool = False

    @property
    def part(self) -> Literal["tables", "moments", "vectors"]:
        """Which part of a reply it travels in."""
        if self.counts:
            return "tables"
        return "moments" if len(self.shape) == 2 else "vectors"

    def shapes(self, sizes: Sizes) -> list[tuple[int, ...]]:
        """All shapes that it may have, the usual one first."""
        found: list[tuple[int, ...]] = [()]
        for side in self.shape:
            found = [(*start, number) for start in found for number in side.options(sizes)]
        return found

    @property
    def by_centroid(self) -> bool:
        """Whether it has a row for each of the centroids that were sent."""
        return self.shape[0] is SENT

    @property
    def symbols(self) -> str:
        """The shape, for a reader."""
        return " × ".join(side.symbol for side in self.shape)


@dataclass(frozen=True)
class Number:
    """A single number that is added up over images and sites.

    One image adds between `low` and `high`, `times` over. `counts`: a whole number. `part_of`: it
    is no more than that other one. A name that ends in ".#" stands for one number for each set of
    centroids. One that ends in ".*" stands for whatever the objective calls its losses: no image's
    part of those is known, and a site's sum lies between `low` and `high`.
    """

    name: str
    what: str
    low: float = 0.0
    high: float = 1.0
    times: Size = ONCE
    behind: Behind = Behind.ALL
    counts: bool = True
    part_of: str = ""
    needed: bool = False

    @property
    def family(self) -> str:
        """What stands before the point, for a name that stands for several."""
        return self.name[:-2] if self.name.endswith((".#", ".*")) else ""


@dataclass(frozen=True)
class List:
    """Points that are collected and not added up: at most `most` of them, each with the number of
    images behind it. `why` it has to be a list."""

    name: str
    words: str
    what: str
    why: str
    most: Size = CLUSTERS
    behind: Behind = Behind.MIN_COUNT


@dataclass(frozen=True)
class Exchange:
    """One kind of exchange.

    `about`: what it is for; `doing`: what goes on meanwhile, in a few words. `after`: the kind that
    goes before it, whose message has brought the model, so that this one's need not; itself, where
    its first step brings it. `centroids`: those that the message brings, `sets` at most. `brings`:
    the modules that come back; `tells`: facts, as words. `figures`: what the server concludes, of
    an exchange that a stage ends with for their sake. `robust`: whether its answers must be as many
    as the stage's rules against Byzantine sites need, beside the quorum. `steps`: whether it may
    come several times in a row, numbered from 1. `call`: which of Flower's calls it is. `of_batch`:
    whether it is about one batch of all sites' images, in a synchronous stage; a site with fewer
    than `min-count` of them says 0 examples. `resizes`: whether it may be about another number of
    clusters than the plan's, `within`: about the images of one cluster alone. `use`: see `Use`.
    """

    kind: str
    about: str
    doing: str
    when: When
    needs: Needs = Needs.MODEL
    after: str = ""
    asks: Asks = Asks.ALL
    centroids: Given = Given.PERHAPS
    sets: int = 1
    brings: Brings = Brings.NOTHING
    sums: tuple[Sum, ...] = ()
    numbers: tuple[Number, ...] = ()
    lists: tuple[List, ...] = ()
    tells: tuple[str, ...] = ()
    figures: tuple[Metric, ...] = ()
    robust: bool = True
    steps: bool = False
    call: Literal["train", "evaluate", "query"] = "evaluate"
    of_batch: bool = False
    resizes: bool = False
    within: bool = False
    use: Use | None = None

    def __post_init__(self) -> None:
        if len({(each.part, each.name) for each in self.sums}) < len(self.sums):
            raise ValueError(f"{self.kind}: two sums of one name")
        if [each.name for each in self.lists] not in ([], ["centroids"]):
            raise ValueError(f"{self.kind}: a message carries one list, called centroids")

    @property
    def solves(self) -> bool:
        """Whether a stage may begin with it."""
        return self.when is When.BEGINNING

    @property
    def goes_on(self) -> bool:
        """Whether its steps are one question, asked again and again with other centroids."""
        return self.after == self.kind

    @property
    def in_a_round(self) -> bool:
        """Whether it belongs to a training round, and not to what is between two."""
        return self.when is When.ROUND

    @property
    def list(self) -> List | None:
        """The one list, if there is one."""
        return self.lists[0] if self.lists else None

    def sums_in(self, part: str) -> dict[str, Sum]:
        """The sums that travel in one part of a reply, by name."""
        return {each.name: each for each in self.sums if each.part == part}

    def numbers_of(self, sizes: Sizes) -> Iterator[Number]:
        """The numbers with those of a ".#" counted out; ".*" as it is."""
        for each in self.numbers:
            if each.name.endswith(".#"):
                names = (f"{each.family}.{index}" for index in range(sizes.sets))
                yield from (replace(each, name=name) for name in names)
            else:
                yield each


def declared(*exchanges: Exchange) -> dict[str, Exchange]:
    """kind -> declaration."""
    if len(table := {each.kind: each for each in exchanges}) < len(exchanges):
        raise ValueError("two exchanges of one kind")
    return table
