"""What a reply must be before it may touch the aggregate.

`read_reply` turns a Flower message into a `Reply` or raises `Refused` with one line that says why;
the round goes on with the others. What is asked for is declared (`common/protocol/exchanges.py`);
how large it must be follows from the server's own plan and model, never from what a site claims.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from flwr.app import Message

from common.protocol.checks import check_names, check_reply
from common.protocol.compact import expanded
from common.protocol.declaration import Brings, Sizes
from common.protocol.layout import BUFFERS, Layout, module_of
from common.protocol.messages import Groups, Instruction, MessageError, Reply
from common.utils.errors import plain


class Refused(Exception):
    """A reply that is not used, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(plain(why))


@dataclass(frozen=True)
class Expected:
    """What answers must fit. `layout`: of what the stage shares; `width`: of embeddings, or of what
    something is solved from; `prepared`: the module that a round begins with, if there is one;
    `landmarks_of`: how many landmarks a site with so many images may send."""

    layout: Layout
    width: int
    prepared: str = ""
    landmarks_of: Callable[[int], int] | None = None

    def brought_back(self, asked: Instruction) -> Groups:
        """Of the groups that were sent, those that an answer brings back."""
        brings = asked.exchange.brings
        if brings is Brings.NOTHING:
            return {}
        if brings is Brings.GRADIENT:
            return {
                name: array
                for name, array in asked.groups.items()
                if module_of(name) != self.prepared and not name.endswith(BUFFERS)
            }
        one = self.prepared if brings is Brings.PREPARED else ""
        return {n: array for n, array in asked.groups.items() if not one or module_of(n) == one}

    def sizes(self, asked: Instruction, images: int) -> Sizes:
        """The shapes of an answer to `asked` by a site of so many images."""
        return Sizes(
            width=self.width,
            clusters=asked.clusters,
            several=len(asked.sets),
            classes=len(asked.classes),
            sent=0 if asked.centroids is None else len(asked.centroids.counts),
            landmarks=self.landmarks_of(images) if self.landmarks_of else 0,
            epochs=asked.plan.stages[asked.stage].passes(images),
        )


def read_reply(
    message: Message, site: str, asked: Instruction, expected: Expected, images: int
) -> Reply:
    """The reply of `site`, which announced so many `images`, to `asked`, checked in every part;
    `Refused` says what does not fit."""
    if message.has_error():
        raise Refused(message.error.reason or f"error {message.error.code}")
    try:
        reply = Reply.from_record(message.content)
        _check_sender(reply, site, asked, images)
        sizes = expected.sizes(asked, images)
        wire = asked.plan.stages[asked.stage].wire
        whole = expanded(reply.halves, asked.exchange, sizes, wire)
        reply = replace(reply, moments={**reply.moments, **whole}, halves={})
        check_reply(reply, asked.exchange, sizes, images)
        brought = expected.brought_back(asked) if reply.examples else {}
        _check_groups(reply, asked, {name: len(array) for name, array in brought.items()})
    except MessageError as error:
        raise Refused(str(error)) from None
    return reply


def _check_sender(reply: Reply, site: str, asked: Instruction, images: int) -> None:
    if reply.site != site:
        raise MessageError(f"it calls itself {reply.site!r}")
    if (reply.kind, reply.round) != (asked.kind, asked.round):
        raise MessageError(
            f"it answers {reply.kind} of round {reply.round}, not {asked.kind} of {asked.round}"
        )
    if reply.examples < (not asked.exchange.of_batch):
        raise MessageError("it trained on zero examples")
    if reply.examples > images:
        raise MessageError(f"{reply.examples} examples: it announced {images}")


def _check_groups(reply: Reply, asked: Instruction, sizes: Mapping[str, int]) -> None:
    if asked.exchange.brings is not Brings.NOTHING and reply.layout != asked.layout:
        raise MessageError(f"its model has layout {reply.layout or 'none'}, not {asked.layout}")
    check_names("groups", reply.groups, sizes, sizes)
    for name, size in sizes.items():
        if reply.groups[name].shape != (size,):
            raise MessageError(
                f"groups.{name}: {len(reply.groups[name])} numbers instead of {size}"
            )
