"""What a reply must be before it may touch the aggregate.

`read_reply` turns a Flower message into a `Reply` or raises `Refused` with one line that says why;
the round goes on with the others.
"""

from collections.abc import Mapping

from flwr.app import Message

from common.messages import Instruction, MessageError, Reply


class Refused(Exception):
    """A reply that is not used, and why."""


def read_reply(message: Message, site: str, asked: Instruction, sizes: Mapping[str, int]) -> Reply:
    """The reply of `site` to `asked`. `sizes`: numbers in each group that a trained reply must
    bring."""
    if message.has_error():
        raise Refused(message.error.reason or f"error {message.error.code}")
    try:
        reply = Reply.from_record(message.content)
    except MessageError as error:
        raise Refused(str(error)) from None
    if reply.site != site:
        raise Refused(f"it calls itself {reply.site!r}")
    if (reply.kind, reply.round) != (asked.kind, asked.round):
        raise Refused(
            f"it answers {reply.kind} of round {reply.round}, not {asked.kind} of {asked.round}"
        )
    if reply.examples <= 0:
        raise Refused("it trained on zero examples")
    _check_tables(reply, asked)
    if asked.kind == "train":
        _check_groups(reply, asked.layout, sizes)
    if asked.kind == "assess" and reply.moments is None:
        raise Refused("moments: missing")
    return reply


def _check_groups(reply: Reply, layout: str, sizes: Mapping[str, int]) -> None:
    if reply.layout != layout:
        raise Refused(f"its model has layout {reply.layout or 'none'}, not {layout}")
    for name, size in sizes.items():
        if name not in reply.groups:
            raise Refused(f"groups.{name}: missing")
        if reply.groups[name].shape != (size,):
            raise Refused(f"groups.{name}: {len(reply.groups[name])} numbers instead of {size}")
    for name in reply.groups.keys() - sizes.keys():
        raise Refused(f"groups.{name}: not asked for")


def _check_tables(reply: Reply, asked: Instruction) -> None:
    columns = {1, max(len(asked.classes), 1)}
    for name, table in reply.tables.items():
        if table.shape[1] not in columns:
            raise Refused(f"tables.{name}: {table.shape[1]} classes instead of {max(columns)}")
        rows = len(table)
        if name == "local":
            own = 0 if reply.centroids is None else len(reply.centroids.counts)
            if rows != own:
                raise Refused(f"tables.local: {rows} rows for {own} centroids")
        elif rows != asked.plan.clusters:
            raise Refused(f"tables.{name}: {rows} clusters instead of {asked.plan.clusters}")
    if reply.centroids is not None and len(reply.centroids.counts) > asked.plan.clusters:
        raise Refused(f"centroids: {len(reply.centroids.counts)} for {asked.plan.clusters} clusters")
