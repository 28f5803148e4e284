"""Flower's messages and objects in the SuperLink's database: what `deploy/flower/messages.py` puts
together. Called from threads, with Flower's SqlLinkState as `state`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from fastapi import HTTPException
from flwr.app import Message
from flwr.common.constant import Status
from flwr.proto.message_pb2 import ObjectTree  # pylint: disable=E0611
from flwr.server.superlink.utils import check_abort
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.object_store import NoObjectInStoreError
from flwr.supercore.run import RunStatus
from flwr.supercore.state.schema.linkstate_models import MessageIns, MessageRes, Run
from flwr.supercore.state.schema.objectstore_models import StoredObject
from flwr.supercore.utils import int64_to_uint64, uint64_to_int64
from sqlalchemy import exists, select, update

from deploy.flower import objects
from deploy.flower.kept import MARK
from deploy.flower.objects import LARGE, Contents, Trees
from deploy.flower.whole import object_ids

T = TypeVar("T")
_INS, _RES, _OBJECTS, _RUNS = (
    cast(Any, model.__table__) for model in (MessageIns, MessageRes, StoredObject, Run)
)
NOT_RUNNING = [Status.PENDING, Status.STARTING, Status.FINISHED]
EARLY = 2**20  # bytes of small objects that are read in the transaction that hands a message out
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
    the contents of those that are small, by id."""

    head: bytes
    ids: list[str]
    sizes: list[int]
    early: dict[str, bytes] = field(default_factory=dict)

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
            select(_INS.c.run_id, _INS.c.dst_node_id).where(_INS.c.message_id == message_id)
        ).first()
        if row is None:
            return None
        trees = Trees(state)
        with suppress(NoObjectInStoreError):  # its site has confirmed it, or it is finished
            trees.get_object_tree(message_id)
        size = sum(trees.sizes.values())
        return Asked(int64_to_uint64(row[0]), int64_to_uint64(row[1]), size)


def outgoing_of(
    run_id: int, answer: Any, tree: ObjectTree, sizes: Mapping[str, int], state: Any
) -> Outgoing:
    """A message that Flower has handed out; `Incomplete` unless all its objects are there."""
    ids = object_ids(tree)
    for name in ids:
        if name not in sizes:
            raise Incomplete(run_id, name)
    lengths = [sizes[name] for name in ids]
    early, total = [], 0
    for name, length in zip(ids, lengths, strict=True):
        if length < LARGE and total + length <= EARLY:
            total += length
            early.append(name)
    contents: dict[str, bytes] = {}
    if early:
        with state.session() as session:
            query = select(_OBJECTS.c.object_id, _OBJECTS.c.content).where(
                _OBJECTS.c.object_id.in_(early)
            )
            rows = session.execute(query).all()
        for name, content in rows:
            whole = state.object_store.get(name) if content.startswith(MARK) else content
            if whole is None:
                raise Incomplete(run_id, name)
            contents[name] = whole
    return Outgoing(answer.SerializeToString(), ids, lengths, contents)


class Light:
    """Stands where Flower's handlers expect the state: a message is stored as Flower stores it, its
    objects are left to `deploy/flower/objects.py`. `trees` are those of the messages that were
    stored."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self.object_store = Trees(state)
        self.trees: list[ObjectTree] = []
        self._sent, self._received, self._runtime = 0, 0, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def start_session(self, _run_id: int) -> str:
        """None is needed: all objects come at once."""
        return ""

    def store_message_and_object_tree(
        self, message: Message, tree: ObjectTree, _session_id: str
    ) -> tuple[bool, list[str]]:
        """Store the message, if Flower would."""
        if message.metadata.reply_to_message_id:
            stored = self._state.store_message_res(message) is not None
        else:
            stored = self._state.store_message_ins(message) is not None
        if stored:
            self.trees.append(tree)
        return stored, []

    def get_run_status(self, run_ids: set[int]) -> dict[int, RunStatus]:
        """Running: a message of a run that is not is not stored, which is looked at afterwards."""
        return {run_id: RunStatus(Status.RUNNING, "", "") for run_id in run_ids}

    def store_traffic(self, _run_id: int, *, bytes_sent: int, bytes_recv: int) -> None:
        """Added up, and noted once."""
        self._sent += bytes_sent
        self._received += bytes_recv

    def add_clientapp_runtime(self, _run_id: int, runtime: float) -> None:
        """Noted with the traffic."""
        self._runtime += runtime

    def note_traffic(self, run_id: int, sent: int = 0, received: int = 0) -> None:
        """Note what there has been, and so much more; in one statement."""
        columns = _RUNS.c
        with self._state.session() as session:
            session.execute(
                update(_RUNS)
                .where(columns.run_id == uint64_to_int64(run_id))
                .values(
                    bytes_sent=columns.bytes_sent + self._sent + sent,
                    bytes_recv=columns.bytes_recv + self._received + received,
                    clientapp_runtime=columns.clientapp_runtime + self._runtime,
                )
            )


class Looking(Light):
    """As `Light`, where a ServerApp looks for a reply and takes none."""

    def get_message_ins(self, *_given: Any, **_named: Any) -> list[Message]:
        """A ServerApp is asked nothing, as agents are."""
        return []

    def delete_messages(self, message_ins_ids: set[str]) -> None:
        """A message stays until it is taken."""


def store(
    push: Callable[[Any], T],
    told: Any,
    contents: Contents,
    run_id: int,
    state: Any,
    *,
    of_a_site: bool,
) -> T:
    """Store the messages that are `told`, by Flower's handler `push`, with the objects that have
    come with them; Flower's answer. It is all there or not at all; of what is large, most is stored
    before, in transactions that keep nobody waiting for long. `of_a_site`: its bytes count."""
    objects.store_early(objects.children_of(told.message_object_trees), contents, run_id, state)
    with state.session() as session:
        light = Light(state)
        answer = push(light)
        size = objects.store(session, objects.children_of(light.trees), contents, run_id)
        if light.trees:
            light.note_traffic(run_id, received=size if of_a_site else 0)
    if not light.trees and (why := check_abort(run_id, NOT_RUNNING, state)):
        raise FlowerError(ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED, why)
    return answer


def hand_out_again(node: int, state: Any, message_id: str = "") -> None:
    """What was handed to a site and has no answer may be handed to it again: all, or one."""
    answered = exists(
        select(_RES.c.message_id).where(_RES.c.reply_to_message_id == _INS.c.message_id)
    )
    with state.session() as session:
        session.execute(
            update(_INS)
            .where(
                _INS.c.dst_node_id == uint64_to_int64(node),
                _INS.c.delivered_at != "",
                ~answered,
                *((_INS.c.message_id == message_id,) if message_id else ()),
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
