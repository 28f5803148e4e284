"""Flower's messages and objects in the SuperLink's database: what `deploy/flower/messages.py` puts
together. Called from threads, with Flower's SqlLinkState as `state`.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import HTTPException
from flwr.proto.message_pb2 import ObjectTree  # pylint: disable=E0611
from flwr.supercore.inflatable.inflatable_object import get_object_id
from flwr.supercore.object_store import NoObjectInStoreError
from flwr.supercore.state.schema.linkstate_models import MessageIns, MessageRes
from flwr.supercore.state.schema.objectstore_models import StoredObject
from flwr.supercore.utils import int64_to_uint64, uint64_to_int64
from sqlalchemy import exists, func, select, update

from deploy.flower.whole import IDENTIFIER, object_ids

EARLY = 2**20  # bytes of objects that are read in the transaction that hands a message out
BATCH = 2**25  # bytes of objects that are stored in one transaction: it keeps all others waiting
MOST_OBJECTS = 10_000  # of a message


class Incomplete(Exception):
    """An object of a message is still under way."""

    def __init__(self, run_id: int, object_id: str) -> None:
        super().__init__(object_id)
        self._run_id, self._object_id = run_id, object_id

    def settle(self, state: Any) -> None:
        """Have Flower delete the message if its maker has stopped bringing objects."""
        state.get_object(self._run_id, self._object_id)


@dataclass
class Outgoing:
    """A message on its way out: the part that says what it is, ids and sizes of its objects, and
    the contents of the first of them."""

    head: bytes
    ids: list[str]
    sizes: list[int]
    early: list[bytes] = field(default_factory=list)

    @property
    def root(self) -> str:
        """The message's id, which is its last object."""
        return self.ids[-1]


@dataclass(frozen=True)
class Asked:
    """An instruction that a site has: of which run, for which site, and how large."""

    run_id: int
    node: int
    size: int


def only(messages: Any, trees: Any) -> tuple[Any, ObjectTree]:
    """The one message of a reply and its tree."""
    if len(messages) != 1 or len(trees) != 1:
        raise HTTPException(400, "not one message with one tree")
    if trees[0].object_id != messages[0].metadata.message_id:
        raise HTTPException(400, "the tree of another message")
    if len(object_ids(trees[0])) > MOST_OBJECTS:
        raise HTTPException(413, f"a message may have {MOST_OBJECTS} objects")
    return messages[0], trees[0]


def look_up(message_id: str, state: Any) -> Asked | None:
    """What a site was asked, from the database: another SuperLink may have asked it."""
    with state.session() as session:
        row = session.execute(
            select(MessageIns.run_id, MessageIns.dst_node_id).where(
                MessageIns.message_id == message_id
            )
        ).first()
        if row is None:
            return None
        try:
            ids = object_ids(state.object_store.get_object_tree(message_id))
        except NoObjectInStoreError:  # its site has confirmed it, or it is finished
            ids = []
        size = sum(length for _, length in _sizes(ids, session).values())
        return Asked(int64_to_uint64(row[0]), int64_to_uint64(row[1]), size)


def _sizes(ids: Collection[str], session: Any) -> dict[str, tuple[bool, int]]:
    """id -> whether the object is there, and its bytes."""
    query = select(
        StoredObject.object_id, StoredObject.is_available, func.length(StoredObject.content)
    ).where(StoredObject.object_id.in_(ids))
    return {name: (bool(there), int(size)) for name, there, size in session.execute(query).all()}


def outgoing_of(run_id: int, answer: Any, tree: ObjectTree, state: Any) -> Outgoing:
    """A message that Flower has handed out; `Incomplete` unless all its objects are there."""
    ids = object_ids(tree)
    with state.session() as session:
        sizes = _sizes(ids, session)
        for name in ids:
            if not sizes.get(name, (False, 0))[0]:
                raise Incomplete(run_id, name)
        lengths = [sizes[name][1] for name in ids]
        early, total = 0, 0
        while early < len(ids) and total + lengths[early] <= EARLY:
            total += lengths[early]
            early += 1
        query = select(StoredObject.object_id, StoredObject.content).where(
            StoredObject.object_id.in_(ids[:early])
        )
        contents = {row[0]: row[1] for row in session.execute(query).all()} if early else {}
    return Outgoing(
        answer.SerializeToString(), ids, lengths, [contents[name] for name in ids[:early]]
    )


def store(
    begin: Callable[[], Any], objects: Iterator[bytes], run_id: int, state: Any
) -> tuple[Any, int]:
    """Store what `begin` announces to Flower, and its objects; Flower's answer, and the bytes that
    were stored.

    Small messages take one transaction; of large ones each takes `BATCH` bytes, and none is handed
    out before its last.
    """
    answer: Any = None
    wanted: set[str] = set()
    total, more = 0, True
    while more:
        size, more = 0, False
        with state.session():
            if answer is None:
                answer = begin()
                wanted = set(answer.objects_to_push)
            for part in objects:
                name, content = _named(part)
                if name in wanted:
                    wanted.discard(name)
                    size += len(content)
                    _put(name, content, run_id, answer.session_id, state)
                if size >= BATCH:
                    more = True
                    break
            if wanted and not more:
                raise HTTPException(400, f"{len(wanted)} objects are missing")
        total += size
    return answer, total


def _named(part: bytes) -> tuple[str, bytes]:
    """The id and the content of an object as it travels."""
    try:
        return part[:IDENTIFIER].decode("ascii"), part[IDENTIFIER:]
    except UnicodeDecodeError:
        raise HTTPException(400, "an object without an id") from None


def _put(name: str, content: bytes, run_id: int, session_id: str, state: Any) -> None:
    if state.store_object(run_id, session_id, name, content):
        return
    if get_object_id(content) != name:
        raise HTTPException(400, "an object that is not the one of its id")
    raise HTTPException(503, "an object could not be stored")


def hand_out_again(node: int, state: Any, message_id: str = "") -> None:
    """What was handed to a site and has no answer may be handed to it again: all, or one."""
    answered = exists(
        select(MessageRes.message_id).where(MessageRes.reply_to_message_id == MessageIns.message_id)
    )
    with state.session() as session:
        session.execute(
            update(MessageIns)
            .where(
                MessageIns.dst_node_id == uint64_to_int64(node),
                MessageIns.delivered_at != "",
                ~answered,
                *((MessageIns.message_id == message_id,) if message_id else ()),
            )
            .values(delivered_at="")
        )


@contextmanager
def rolled_back(state: Any) -> Iterator[None]:
    """A transaction that leaves the database as it was."""

    class Undo(Exception):
        pass

    done = False
    try:
        with state.session():
            yield
            done = True
            raise Undo
    except Undo:
        assert done
