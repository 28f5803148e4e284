"""What a site says of itself when it is greeted, and what of that is believed.

It decides the federation's shapes and is written to `run.json`, to the report and to screens, so
that numbers have bounds and names are printable.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

from flwr.app import Message

from common.learned.offered import are_names
from common.protocol.exchanges import EXCHANGES
from common.protocol.messages import MOST_CLASSES, MessageError, Reply
from common.record.account import COUNTS
from common.record.schema import FileCounts, SiteFacts
from common.utils.errors import UserError

MOST_IMAGES = 2**30  # of a site
MOST_IN_ALL = 2**40  # images of all sites, from where no weighted mean is exact
LARGEST_SIDE = 4096  # pixels, as the run option `side`
LONGEST_NAME = 200
Shape = tuple[int, int]
"""Channels and side in pixels of all images of a site."""
COLOURS = {1: "grey", 3: "rgb"}
NO_TEXTS = ("channels", "side", "classes", "files", "withdrawn", "names", "weights")
TEXTS = tuple(name for name in EXCHANGES["hello"].tells if name not in NO_TEXTS)


@dataclass(frozen=True)
class SiteInfo:
    """What a site said of itself. `parts`: how many parts it has of the file with the encoder's
    weights, where it wants the others; -1: it does not."""

    name: str
    examples: int
    channels: int
    side: int
    classes: tuple[str, ...]
    facts: SiteFacts
    parts: int = -1

    @property
    def shape(self) -> Shape:
        """Of its images."""
        return self.channels, self.side


def prevailing(sites: Iterable[SiteInfo]) -> tuple[Shape, int]:
    """The shape that most sites' images have, and how many sites that is; of equally many, the one
    with more images, then the smaller one. Who was first has no say in it."""
    votes = by_shape(sites)

    def weight(shape: Shape) -> tuple[int, int, int, int]:
        channels, side = shape
        return len(votes[shape]), sum(votes[shape].values()), -side, -channels

    shape = max(votes, key=weight)
    return shape, len(votes[shape])


def by_shape(sites: Iterable[SiteInfo]) -> dict[Shape, dict[str, int]]:
    """Shape -> name -> images of the sites that have it, both sorted."""
    found: dict[Shape, dict[str, int]] = defaultdict(dict)
    for site in sorted(sites, key=lambda each: (each.shape, each.name)):
        found[site.shape][site.name] = site.examples
    return found


def check_shape(site: SiteInfo, shape: Shape) -> None:
    """`UserError` with both where the images of `site` do not have the federation's `shape`."""
    if site.shape != shape:
        channels, side = shape
        same = site.channels == channels
        way = (
            f"covey client join --side {side} scales them"
            if same
            else f"covey submit --side {side} --colours {COLOURS[channels]} makes all sites' alike"
        )
        raise UserError(
            f"its images are {in_words(site.shape)}, the federation's {in_words(shape)} ({way})"
        )


def in_words(shape: Shape) -> str:
    """As people read it: 3×32×32."""
    channels, side = shape
    return f"{channels}×{side}×{side}"


def read_greeting(answer: Message, registered: str) -> SiteInfo:
    """What the site that the server knows as `registered` ("": it knows no names) answered to a
    `hello`; `UserError` says what does not fit."""
    reply = Reply.from_record(answer.content)
    if registered and registered != reply.site:
        raise MessageError(f"it calls itself {reply.site!r}")
    if not is_name(reply.site) or reply.examples <= 0:
        raise UserError("it has no name, or no images")
    if reply.kind != "hello" or reply.examples > MOST_IMAGES:
        raise UserError(f"it answers {reply.kind}, with {reply.examples} images")
    info = reply.info
    channels, side, classes = info.get("channels"), info.get("side"), info.get("classes", [])
    if type(channels) is not int or type(side) is not int or not isinstance(classes, list):
        raise MessageError("hello: channels, side or classes are missing")
    if channels not in (1, 3) or not 1 <= side <= LARGEST_SIDE:
        raise UserError(f"its images are {channels}×{side}×{side}")
    names = tuple(name for name in classes if is_name(name))
    if len(classes) > MOST_CLASSES or len(names) < len(classes):
        raise UserError(f"it has {len(classes)} classes, or one without a printable name")
    texts = {key: text for key in TEXTS if is_name(text := info.get(key))}
    facts = SiteFacts(
        examples=reply.examples,
        channels=channels,
        side=side,
        files=_files(info.get("files")),
        withdrawn=count if _is_count(count := info.get("withdrawn")) else None,
        names=tuple(offered) if are_names(offered := info.get("names")) else None,
        **texts,
    )
    parts = given if _is_count(given := info.get("weights")) else -1
    return SiteInfo(reply.site, reply.examples, channels, side, names, facts, parts)


def _files(told: object) -> FileCounts | None:
    """A site's account of its files, if it has one that can be believed."""
    if not isinstance(told, list) or len(told) != len(COUNTS):
        return None
    return FileCounts.of(told) if all(map(_is_count, told)) else None


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MOST_IMAGES


def is_name(value: object) -> TypeGuard[str]:
    """Whether this is a short text on one line, to be written and shown as it is."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()
